//! A model before it is loaded: whether its files can work, and what memory it will take.

mod draft;
mod estimate;
mod folder;
mod gguf;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

pub(crate) use estimate::Shape;
use pool_api::Engine;

use gguf::{Gguf, GgufError};

/// What a model's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// Of all its files.
    pub(crate) weight_bytes: u64,
    pub(crate) shape: Shape,
    /// Of the engine's own code and buffers.
    pub(crate) engine_bytes: u64,
    /// Messages can be made into a prompt.
    pub(crate) chat_template: bool,
    /// What guesses tokens for it.
    pub(crate) draft: Option<Box<Model>>,
}

impl Model {
    /// Memory of the loaded model with a KV cache of `context_tokens` in all slots together. An
    /// estimate: caches of quantised or windowed attention are smaller; a measurement corrects it.
    pub(crate) fn memory_bytes(&self, context_tokens: u64) -> u64 {
        // A draft sees the same tokens, in the same process.
        let draft = self.draft.as_ref().map_or(0, |it| it.loaded_bytes(context_tokens));
        let loaded = self.loaded_bytes(context_tokens).saturating_add(draft);
        loaded.saturating_add(self.engine_bytes)
    }

    fn loaded_bytes(&self, context_tokens: u64) -> u64 {
        self.weight_bytes.saturating_add(self.shape.working_bytes(context_tokens))
    }
}

/// Code, tokenizer and HTTP server of llama.cpp.
const PROCESS_BYTES: u64 = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("cannot open the model file `{path}`: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("the model `{path}` is not a file")]
    NotFile { path: PathBuf },
    #[error("`{path}` is not a GGUF model: it starts with {found:?}, expected \"GGUF\"")]
    NotGguf { path: PathBuf, found: String },
    #[error("the model file `{path}` is broken: {source}")]
    Broken { path: PathBuf, source: GgufError },
    #[error(
        "the model file `{path}` is cut short: it has {found} bytes, its tensors end at {expected}"
    )]
    Truncated { path: PathBuf, found: u64, expected: u64 },
    #[error("the model `{path}` is not a folder, which this engine loads")]
    NotFolder { path: PathBuf },
    #[error("the model folder `{path}` has no {what}")]
    Missing { path: PathBuf, what: &'static str },
    #[error("`{path}` is not what it should be: {message}")]
    Malformed { path: PathBuf, message: String },
}

/// Looks at the files that an engine with these flags is to load: its model's, and those of the draft
/// model that the flags name. Blocks for as long as the file system does.
pub(crate) fn inspect(engine: &Engine, path: &Path, flags: &[String]) -> Result<Model, ModelError> {
    let draft = draft::named(engine, flags);
    let draft = draft.map(|it| files(engine, &it).map(Box::new)).transpose()?;
    Ok(Model { draft, ..files(engine, path)? })
}

fn files(engine: &Engine, path: &Path) -> Result<Model, ModelError> {
    match engine {
        Engine::Llamacpp => gguf_file(path),
        Engine::Vllm | Engine::Tgi => folder::inspect(path),
        Engine::Triton(model) => folder::inspect_repository(path, &model.model),
    }
}

/// Reads the header of a GGUF file, and the sizes of those that belong to it.
fn gguf_file(path: &Path) -> Result<Model, ModelError> {
    let own = || path.to_owned();
    let open = |source| ModelError::Open { path: own(), source };
    // Asked by name first: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(open)?;
    if !metadata.is_file() {
        return Err(ModelError::NotFile { path: own() });
    }
    let mut file = BufReader::new(File::open(path).map_err(open)?);
    let mut magic = [0; 4];
    let read = file.read(&mut magic).map_err(open)?;
    if magic != gguf::MAGIC {
        let found = String::from_utf8_lossy(&magic[..read]).into_owned();
        return Err(ModelError::NotGguf { path: own(), found });
    }
    let broken = |source| ModelError::Broken { path: own(), source };
    let header = Gguf::read(&mut file, metadata.len()).map_err(broken)?;
    if metadata.len() < header.end {
        let (found, expected) = (metadata.len(), header.end);
        return Err(ModelError::Truncated { path: own(), found, expected });
    }
    let mut weight_bytes = metadata.len();
    for part in further_parts(path) {
        let missing = |source| ModelError::Open { path: part.clone(), source };
        weight_bytes += std::fs::metadata(&part).map_err(missing)?.len();
    }
    Ok(Model {
        weight_bytes,
        shape: Shape::of(&header),
        engine_bytes: PROCESS_BYTES,
        chat_template: header.text("tokenizer.chat_template").is_some(),
        draft: None,
    })
}

/// Files after the first of a model that was split: `name-00001-of-00003.gguf`.
fn further_parts(path: &Path) -> Vec<PathBuf> {
    let parts = || -> Option<Vec<PathBuf>> {
        let stem = path.file_stem()?.to_str()?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (name, first) = rest.rsplit_once('-')?;
        let numbered = first.len() == 5 && count.len() == 5 && first.parse::<u32>() == Ok(1);
        let count: u32 = count.parse().ok().filter(|_| numbered)?;
        let part = |it| path.with_file_name(format!("{name}-{it:05}-of-{count:05}.gguf"));
        Some((2..=count).map(part).collect())
    };
    parts().unwrap_or_default()
}

#[cfg(test)]
mod tests;
