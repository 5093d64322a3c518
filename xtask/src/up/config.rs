//! `config/home.yaml` with the paths, ports and pools of this run filled in.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::Plan;
use crate::root;

/// Context of a slot for a model of the user's; more costs memory that was not checked for.
const OWN_CONTEXT_TOKENS: u32 = 4_096;

fn home() -> anyhow::Result<Value> {
    let home = root().join("config/home.yaml");
    let text = std::fs::read_to_string(&home)
        .with_context(|| format!("cannot read `{}`", home.display()))?;
    serde_saphyr::from_str(&text).context("config/home.yaml is no YAML")
}

/// Its pool, for a model that is bundled or the user's own.
pub(super) fn pool(engine: &Path, model: &Path, id: &str, own: bool) -> anyhow::Result<Value> {
    let mut pool = home()?["pool_manager"]["pools"][0].take();
    pool["bin"] = json!(engine);
    pool["model"]["id"] = json!(id);
    pool["model"]["path"] = json!(model);
    if own {
        // The shipped file's values suit the bundled model: one thread, a kilobyte or so of verse.
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        pool["model"]["context_tokens"] = json!(OWN_CONTEXT_TOKENS);
        pool["flags"] = json!(["-t", threads.to_string()]);
    }
    Ok(pool)
}

/// Writes the configuration (JSON is YAML) and returns its path.
pub(super) fn write(plan: &Plan) -> anyhow::Result<PathBuf> {
    let mut config = home()?;
    config["bind"] = json!([format!("127.0.0.1:{}", plan.port)]);
    config["pool_managers"] = json!([{"url": format!("http://127.0.0.1:{}", plan.port + 1)}]);
    let manager = &mut config["pool_manager"];
    manager["bind"] = json!([format!("127.0.0.1:{}", plan.port + 1)]);
    manager["data_dir"] = json!(plan.folder.join("data"));
    manager["pools"] = json!(plan.pools);
    config["journal"]["data_dir"] = json!(plan.folder.join("journal"));
    let text = serde_json::to_string_pretty(&config)?;
    config_schema::parse(&text).context("config/home.yaml with this run's pools")?;
    std::fs::create_dir_all(&plan.folder)
        .with_context(|| format!("cannot create `{}`", plan.folder.display()))?;
    let path = plan.folder.join("config.json");
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}
