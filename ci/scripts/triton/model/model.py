"""A Triton model with the inputs and outputs of the vLLM backend, and llama.cpp inside.

Streams the tokens of the GGUF file beside this one. For tests of the protocol against the real server,
which has no backend for language models in the package registries.
"""

import json
import os
import queue
import threading

import triton_python_backend_utils as pb_utils

SLOTS = 4


class TritonPythonModel:
    def initialize(self, args):
        import xllamacpp

        folder = os.path.join(args["model_repository"], args["model_version"])
        params = xllamacpp.CommonParams()
        params.model.path = os.path.join(folder, "model.gguf")
        params.n_ctx = 1024 * SLOTS
        params.n_parallel = SLOTS
        params.kv_unified = False
        params.cpuparams.n_threads = 1
        self.server = xllamacpp.Server(params)

    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.generate, args=(request,), daemon=True).start()

    def generate(self, request):
        sender = request.get_response_sender()
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            for piece, finish, prompt_tokens, tokens in self.pieces(request):
                if request.is_cancelled():
                    break
                sender.send(response(piece, finish, prompt_tokens, tokens))
        except Exception as error:
            failure = pb_utils.TritonError(f"Error generating stream: {error}")
            sender.send(pb_utils.InferenceResponse(error=failure))
        sender.send(flags=final)

    def pieces(self, request):
        """Text, finish reason, tokens of the prompt and tokens of the piece; the last is empty."""
        text = value(request, "text_input").decode()
        settings = json.loads(value(request, "sampling_parameters") or b"{}")
        ask = {
            "prompt": text,
            "stream": True,
            "max_tokens": settings.get("max_tokens", 16),
            "seed": settings.get("seed", 0),
            "temperature": settings.get("temperature", 1.0),
            "top_p": settings.get("top_p", 1.0),
            "top_k": settings.get("top_k", 0),
            "min_p": settings.get("min_p", 0.0),
            "repeat_penalty": settings.get("repetition_penalty", 1.0),
            "presence_penalty": settings.get("presence_penalty", 0.0),
            "frequency_penalty": settings.get("frequency_penalty", 0.0),
            "timings_per_token": True,
            "cache_prompt": False,
        }
        arrived = queue.SimpleQueue()

        def take(chunk):
            arrived.put(chunk)
            # True ends the generation.
            return request.is_cancelled()

        def run():
            try:
                self.server.handle_completions(ask, take)
                arrived.put(None)
            except Exception as error:
                arrived.put(error)

        threading.Thread(target=run, daemon=True).start()
        told = 0
        while (chunk := arrived.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            choice = chunk["choices"][0]
            timings = chunk.get("timings") or {}
            usage = chunk.get("usage") or {}
            prompt_tokens = usage.get("prompt_tokens") or timings.get("prompt_n", 0)
            so_far = usage.get("completion_tokens") or timings.get("predicted_n", told + 1)
            finish = choice["finish_reason"] or "None"
            yield choice["text"], finish, prompt_tokens, max(0, so_far - told)
            told = max(told, so_far)


def value(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().flatten()[0]


def response(text, finish, prompt_tokens, tokens):
    import numpy

    def words(name, it):
        return pb_utils.Tensor(name, numpy.array([it.encode()], dtype=object))

    def number(name, it):
        return pb_utils.Tensor(name, numpy.array([it], dtype=numpy.uint32))

    return pb_utils.InferenceResponse(
        [
            words("text_output", text),
            words("finish_reason", finish),
            number("num_input_tokens", prompt_tokens),
            number("num_output_tokens", tokens),
        ]
    )
