//! Models that are folders: Hugging Face's layout, and Triton's repositories.
//!
//! The format of safetensors: 8 bytes with the length of a JSON header, the header, the data
//! (<https://huggingface.co/docs/safetensors>).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Model, ModelError, Shape};

/// What a Python engine takes beside its model: interpreter, libraries, graphs and workspaces.
const PYTHON_ENGINE_BYTES: u64 = 2 << 30;
/// A header that is longer is none.
const HEADER_BYTES_MAX: u64 = 100 << 20;

pub(super) fn inspect(folder: &Path) -> Result<Model, ModelError> {
    let files = files(folder)?;
    let with = |extension: &str| -> Vec<&PathBuf> {
        files.iter().filter(|it| it.extension().is_some_and(|it| it == extension)).collect()
    };
    let config: Config = json(&folder.join("config.json"))?;
    let safetensors = with("safetensors");
    let mut weight_bytes = 0_u64;
    for file in &safetensors {
        weight_bytes = weight_bytes.saturating_add(whole(file)?);
    }
    if safetensors.is_empty() {
        for file in with("bin") {
            weight_bytes = weight_bytes.saturating_add(size(file)?);
        }
    }
    if weight_bytes == 0 {
        let what = "weights: expected *.safetensors or *.bin";
        return Err(ModelError::Missing { path: folder.to_owned(), what });
    }
    Ok(Model {
        weight_bytes,
        shape: config.shape(),
        engine_bytes: PYTHON_ENGINE_BYTES,
        chat_template: has_template(folder),
        draft: None,
    })
}

/// A repository of models, of which one is loaded; what it takes is known by its size alone.
pub(super) fn inspect_repository(repository: &Path, model: &str) -> Result<Model, ModelError> {
    let known = files(repository)?;
    let folder = repository.join(model);
    if !known.contains(&folder) || !folder.is_dir() {
        let message = format!("it has no model `{model}`");
        return Err(ModelError::Malformed { path: repository.to_owned(), message });
    }
    Ok(Model {
        weight_bytes: size_within(&folder, 3)?,
        shape: Shape::default(),
        engine_bytes: PYTHON_ENGINE_BYTES,
        chat_template: false,
        draft: None,
    })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let open = |source| ModelError::Open { path: folder.to_owned(), source };
    if !std::fs::metadata(folder).map_err(open)?.is_dir() {
        return Err(ModelError::NotFolder { path: folder.to_owned() });
    }
    let entries = std::fs::read_dir(folder).map_err(open)?;
    entries.map(|it| it.map(|it| it.path()).map_err(open)).collect()
}

fn size(file: &Path) -> Result<u64, ModelError> {
    let open = |source| ModelError::Open { path: file.to_owned(), source };
    Ok(std::fs::metadata(file).map_err(open)?.len())
}

/// All files up to some folders down: a repository's versions, and what they hold.
fn size_within(folder: &Path, depth: u32) -> Result<u64, ModelError> {
    let mut bytes = 0_u64;
    for path in files(folder)? {
        let inner =
            if path.is_dir() && 0 < depth { size_within(&path, depth - 1)? } else { size(&path)? };
        bytes = bytes.saturating_add(inner);
    }
    Ok(bytes)
}

/// The size of a safetensors file, which must hold all that its header names.
fn whole(path: &Path) -> Result<u64, ModelError> {
    let open = |source| ModelError::Open { path: path.to_owned(), source };
    let malformed = |message: String| ModelError::Malformed { path: path.to_owned(), message };
    let found = size(path)?;
    let mut file = File::open(path).map_err(open)?;
    let mut length = [0; 8];
    let cut = |_| ModelError::Truncated { path: path.to_owned(), found, expected: 8 };
    file.read_exact(&mut length).map_err(cut)?;
    let length = u64::from_le_bytes(length);
    if HEADER_BYTES_MAX < length {
        return Err(malformed(format!("a safetensors header of {length} bytes")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(open)?;
    let start = length + 8;
    if (header.len() as u64) < length {
        return Err(ModelError::Truncated { path: path.to_owned(), found, expected: start });
    }
    let header: Map<String, Value> = serde_json::from_slice(&header)
        .map_err(|it| malformed(format!("its safetensors header is no JSON object: {it}")))?;
    let end = |tensor: &Value| tensor["data_offsets"][1].as_u64();
    let expected = start.saturating_add(header.values().filter_map(end).max().unwrap_or(0));
    if found < expected {
        return Err(ModelError::Truncated { path: path.to_owned(), found, expected });
    }
    Ok(found)
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text =
        std::fs::read(path).map_err(|source| ModelError::Open { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|it| ModelError::Malformed { path: path.to_owned(), message: it.to_string() })
}

fn has_template(folder: &Path) -> bool {
    let in_tokenizer = || {
        let config: Value = json(&folder.join("tokenizer_config.json")).unwrap_or_default();
        !config["chat_template"].is_null()
    };
    folder.join("chat_template.jinja").exists() || in_tokenizer()
}

/// What decides memory; 0 where the file does not tell.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    hidden_size: u64,
    vocab_size: u64,
    #[serde(alias = "torch_dtype")]
    dtype: Option<String>,
    /// Of a model that sees as well.
    text_config: Option<Box<Config>>,
}

impl Config {
    fn shape(&self) -> Shape {
        if let Some(text) = &self.text_config {
            return text.shape();
        }
        let head =
            self.head_dim.unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1));
        let kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        let number = if self.dtype.as_deref() == Some("float32") { 4 } else { 2 };
        // Keys and values.
        let layer = 2_u64.saturating_mul(kv_heads).saturating_mul(head).saturating_mul(number);
        Shape {
            kv_bytes_per_token: self.num_hidden_layers.saturating_mul(layer),
            embedding: self.hidden_size,
            vocabulary: self.vocab_size,
        }
    }
}
