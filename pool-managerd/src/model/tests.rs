//! What model files are refused for, and what is made of those that are fit.

use pool_api::Engine;
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use super::{Model, ModelError, inspect};

/// A header as the format has it: a list of entries and tensors.
struct Header {
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Header {
    fn new() -> Self {
        Self { entries: Vec::new(), tensors: Vec::new() }
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    fn number(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    /// Of f16, at `offset` of the data.
    fn tensor(mut self, elements: u64, offset: u64) -> Self {
        let shape = [&1_u32.to_le_bytes()[..], &elements.to_le_bytes()].concat();
        let place = [&1_u32.to_le_bytes()[..], &offset.to_le_bytes()].concat();
        self.tensors.push([&text("t")[..], &shape, &place].concat());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.entries.len() as u64];
        let head = [&b"GGUF\x03\0\0\0"[..], &counts.map(u64::to_le_bytes).concat()].concat();
        [head, self.entries.concat(), self.tensors.concat()].concat()
    }
}

fn told(bytes: &[u8]) -> Result<Model, ModelError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    inspect(&Engine::Llamacpp, &path, &[])
}

fn refused(bytes: &[u8]) -> String {
    told(bytes).unwrap_err().to_string().split_once("gguf` ").unwrap().1.to_owned()
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model.gguf");
    mkfifoat(CWD, &model, Mode::RUSR).unwrap();
    let refused = inspect(&Engine::Llamacpp, &model, &[]);
    assert!(matches!(refused, Err(ModelError::NotFile { .. })), "{refused:?}");
}

// OC-POOL-3002
#[test]
fn a_file_that_is_no_model_is_told_with_what_it_holds() {
    assert_eq!(refused(b"GG"), "is not a GGUF model: it starts with \"GG\", expected \"GGUF\"");
    assert_eq!(refused(b"GGUF"), "is broken: its header ends early");
    assert_eq!(refused(b"GGUF\x09\0\0\0"), "is broken: version 9, expected 2 or 3");
    let cut = Header::new().number("a", 1).bytes();
    assert_eq!(refused(&cut[..cut.len() - 1]), "is broken: its header ends early");
    let long = Header::new().entry("a", 8, &u64::MAX.to_le_bytes()).bytes();
    assert!(refused(&long).starts_with("is broken: a text or list of 18446744073709551615 bytes"));
    let odd = Header::new().entry("a", 77, &[]).bytes();
    assert_eq!(refused(&odd), "is broken: a value of type 77, expected 0 to 12");
}

// OC-POOL-3002
#[test]
fn a_download_that_was_cut_short_is_told_before_the_load() {
    let header = Header::new().tensor(64, 0).tensor(100, 128);
    let mut file = header.bytes();
    let data = file.len().next_multiple_of(32);
    file.resize(data + 128 + 200, 0);
    assert!(told(&file).is_ok());
    file.pop();
    let expected =
        format!("is cut short: it has {} bytes, its tensors end at {}", data + 327, data + 328);
    assert_eq!(refused(&file), expected);
}

// OC-POOL-3002, ORCH-3020
#[test]
fn memory_grows_with_layers_heads_and_context() {
    let tokens = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("b")].concat();
    let file = Header::new()
        .entry("general.architecture", 8, &text("llama"))
        .number("llama.block_count", 32)
        .number("llama.embedding_length", 4_096)
        .number("llama.attention.head_count", 32)
        .number("llama.attention.head_count_kv", 8)
        .entry("tokenizer.ggml.tokens", 9, &tokens)
        .entry("tokenizer.chat_template", 8, &text("{{ messages }}"))
        .bytes();
    let model = told(&file).unwrap();
    // Of an 8 B llama with 8 KV heads of 128: 32 × 8 × 256 × 2 bytes.
    assert_eq!(model.shape.kv_bytes_per_token, 131_072);
    assert_eq!((model.shape.embedding, model.shape.vocabulary), (4_096, 2));
    assert!(model.chat_template);
    let [small, large] = [1_024, 9_216].map(|it| model.memory_bytes(it));
    assert_eq!(large - small, 1 << 30);
    assert!(128 << 20 < small - model.weight_bytes, "{small}");
}

#[test]
fn the_parts_of_a_split_model_count_together() {
    let folder = TempDir::new().unwrap();
    let part = |it: u32| folder.path().join(format!("m-{it:05}-of-00003.gguf"));
    let header = Header::new().bytes();
    for it in 1..=3 {
        std::fs::write(part(it), &header).unwrap();
    }
    assert_eq!(
        inspect(&Engine::Llamacpp, &part(1), &[]).unwrap().weight_bytes,
        3 * header.len() as u64
    );
    std::fs::remove_file(part(2)).unwrap();
    let missing = inspect(&Engine::Llamacpp, &part(1), &[]).unwrap_err().to_string();
    assert!(missing.contains("m-00002-of-00003.gguf"), "{missing}");
}

/// A folder as Hugging Face's models have it, with one tensor of `data` bytes.
fn folder(data: usize) -> TempDir {
    let folder = TempDir::new().unwrap();
    let header = format!(r#"{{"w":{{"dtype":"F16","shape":[1],"data_offsets":[0,{data}]}}}}"#);
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], header.as_bytes(), &vec![0; data]].concat();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    let config = r#"{"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "hidden_size": 4096, "vocab_size": 7, "torch_dtype": "bfloat16"}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"chat_template": "{{}}"}"#)
        .unwrap();
    folder
}

// OC-POOL-3002, ORCH-3020
#[test]
fn a_folder_of_safetensors_tells_its_memory() {
    let folder = folder(1_000);
    let model = inspect(&Engine::Vllm, folder.path(), &[]).unwrap();
    assert_eq!(model.shape.kv_bytes_per_token, 131_072);
    assert_eq!((model.shape.embedding, model.shape.vocabulary), (4_096, 7));
    assert!(model.chat_template && 1_000 < model.weight_bytes && model.weight_bytes < 1_200);
    assert_eq!(model.memory_bytes(9_216) - model.memory_bytes(1_024), 1 << 30);
    // The same file for llama.cpp is refused as what it is not.
    let refused = inspect(&Engine::Llamacpp, folder.path(), &[]).unwrap_err().to_string();
    assert!(refused.contains("is not a file"), "{refused}");
}

#[test]
fn a_folder_that_cannot_work_is_refused() {
    let refused =
        |folder: &TempDir| inspect(&Engine::Tgi, folder.path(), &[]).unwrap_err().to_string();
    let cut = folder(1_000);
    let file = cut.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&cut).contains("is cut short"), "{}", refused(&cut));
    std::fs::write(&file, u64::MAX.to_le_bytes()).unwrap();
    assert!(refused(&cut).contains("safetensors header of"), "{}", refused(&cut));
    std::fs::remove_file(&file).unwrap();
    assert!(refused(&cut).contains("has no weights"), "{}", refused(&cut));
    std::fs::remove_file(cut.path().join("config.json")).unwrap();
    assert!(refused(&cut).contains("config.json"), "{}", refused(&cut));
}

#[test]
fn a_repository_without_the_model_is_refused() {
    let repository = TempDir::new().unwrap();
    let triton = |model: &str| {
        let fields = pool_api::TritonFields::Vllm;
        Engine::Triton(pool_api::TritonModel { model: model.into(), fields })
    };
    std::fs::create_dir_all(repository.path().join("m/1")).unwrap();
    std::fs::write(repository.path().join("m/1/weights"), [0; 700]).unwrap();
    assert_eq!(inspect(&triton("m"), repository.path(), &[]).unwrap().weight_bytes, 700);
    let refused = inspect(&triton("../m"), repository.path(), &[]).unwrap_err().to_string();
    assert!(refused.contains("has no model `../m`"), "{refused}");
}

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|it| (*it).to_owned()).collect()
}

// ORCH-3020
#[test]
fn a_draft_model_of_llama_cpp_counts_with_its_weights_and_its_share_of_the_context() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, layers: u32, embedding: u32| {
        let bytes = Header::new()
            .entry("general.architecture", 8, &text("llama"))
            .number("llama.block_count", layers)
            .number("llama.embedding_length", embedding)
            .number("llama.attention.head_count", 8)
            .bytes();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        (path, bytes.len() as u64)
    };
    let ((path, _), (draft, draft_bytes)) = (file("m.gguf", 32, 1_024), file("d.gguf", 4, 256));
    let memory = |options: &[&str], context: u64| {
        inspect(&Engine::Llamacpp, &path, &flags(options)).unwrap().memory_bytes(context)
    };
    let draft = draft.to_str().unwrap();
    let with = [
        vec!["-md", draft],
        vec!["--model-draft", draft, "--verbose"],
        vec!["-md", "/nowhere", "--spec-draft-model", draft],
    ];
    for options in with {
        let more = |context| memory(&options, context) - memory(&[], context);
        // A token leaves 4 layers × 256 × 2 × 2 bytes more.
        assert_eq!(more(9_216) - more(1_024), 8_192 * 4_096);
        // A micro-batch of 512 rows of 8 × 256 numbers of 4 bytes.
        assert_eq!(more(0), draft_bytes + 512 * 8 * 256 * 4);
    }
    let refused = inspect(&Engine::Llamacpp, &path, &flags(&["-md", "/nowhere"])).unwrap_err();
    assert!(refused.to_string().contains("`/nowhere`"), "{refused}");
    assert_eq!(memory(&["--verbose", "-md"], 0), memory(&[], 0));
}

// ORCH-3020
#[test]
fn a_draft_model_of_vllm_counts_if_it_is_a_folder() {
    let (model, draft) = (folder(1_000), folder(100));
    let memory = |options: &[&str]| {
        inspect(&Engine::Vllm, model.path(), &flags(options)).map(|it| it.memory_bytes(1_024))
    };
    let plain = memory(&[]).unwrap();
    let config = |name: &str| format!(r#"{{"model": "{name}", "num_speculative_tokens": 5}}"#);
    let local = config(draft.path().to_str().unwrap());
    let alone = inspect(&Engine::Vllm, draft.path(), &[]).unwrap();
    let counted = plain + alone.memory_bytes(1_024) - alone.engine_bytes;
    assert_eq!(memory(&["--speculative-config", &local]).unwrap(), counted);
    assert_eq!(memory(&[&format!("--speculative-config={local}")]).unwrap(), counted);
    // Fetched by vLLM, or no model at all.
    assert_eq!(memory(&["--speculative-config", &config("org/small")]).unwrap(), plain);
    assert_eq!(memory(&["--speculative-config", r#"{"method": "ngram"}"#]).unwrap(), plain);
    let refused = memory(&["--speculative-config", &config("/nowhere")]).unwrap_err();
    assert!(refused.to_string().contains("`/nowhere`"), "{refused}");
}
