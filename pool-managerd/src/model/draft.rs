//! The smaller model that an engine guesses tokens with, where a pool's flags name one.

use std::path::PathBuf;

use pool_api::Engine;
use serde_json::Value;

/// As llama-server has called the option over time.
const LLAMACPP: [&str; 3] = ["-md", "--model-draft", "--spec-draft-model"];
const VLLM: [&str; 1] = ["--speculative-config"];

/// Its file or folder. `None` also where vLLM is to fetch it by name: that is known by measurement
/// only.
pub(super) fn named(engine: &Engine, flags: &[String]) -> Option<PathBuf> {
    match engine {
        Engine::Llamacpp => last(&LLAMACPP, flags).map(PathBuf::from),
        Engine::Vllm => {
            let config: Value = serde_json::from_str(last(&VLLM, flags)?).ok()?;
            let path = PathBuf::from(config["model"].as_str()?);
            (path.is_absolute() || path.is_dir()).then_some(path)
        }
        Engine::Tgi | Engine::Triton(_) => None,
    }
}

/// The value of an option, which engines take from the last place where it stands: in the argument
/// after it, or in its own after `=`.
fn last<'a>(names: &[&str], flags: &'a [String]) -> Option<&'a str> {
    let value = |(index, flag): (usize, &'a String)| {
        let (name, inside) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.as_str(), None),
        };
        let value = inside.or_else(|| flags.get(index + 1).map(String::as_str));
        value.filter(|_| names.contains(&name))
    };
    flags.iter().enumerate().filter_map(value).next_back()
}
