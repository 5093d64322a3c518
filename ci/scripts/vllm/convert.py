"""Writes a GGUF model as the folder that Hugging Face's libraries and vLLM load, in half precision."""

import os
import sys

from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, name = os.path.split(sys.argv[1])
out = sys.argv[2]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
os.makedirs(out)
weights = {}
for key, tensor in model.state_dict().items():
    if not (key == "lm_head.weight" and model.config.tie_word_embeddings):
        weights[key] = tensor.half().contiguous()
save_file(weights, os.path.join(out, "model.safetensors"), {"format": "pt"})
config = model.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
config.architectures = [type(model).__name__]
config.dtype = "float16"
config.save_pretrained(out)
# What the file says of its vocabulary does not say this: every prompt begins with it.
start = tokenizer.bos_token
if tokenizer("x").input_ids[0] != tokenizer.bos_token_id:
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
    )
tokenizer.save_pretrained(out)
