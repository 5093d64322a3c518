//! A changed configuration, while the manager runs: taken whole or not at all.
//!
//! What is fit is not applied piece by piece: the manager becomes a new one, with the new
//! configuration, which takes the engines over. Pools that did not change do not notice.

use std::net::TcpListener;
use std::path::PathBuf;

use config_schema::{Change, Config, ManagerConfig};

use crate::app::credentials;
use crate::durable;
use crate::footprint::misfits;

/// The file as it was read at the start.
#[derive(Debug, Clone)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// A configuration that can take the place of the present one.
pub(crate) struct Next {
    /// Where the present one is kept.
    pub(crate) previous: PathBuf,
    pub(crate) changes: Vec<Change>,
    /// Pools, by index, whose engines cannot serve on.
    pub(crate) ending: Vec<usize>,
}

/// Reads the file again, and keeps what it takes the place of. `None`: nothing has changed.
///
/// # Errors
/// In words for the operator: what is wrong with it, or what cannot change without a restart.
pub(crate) fn judge(source: &Source, present: &Config) -> Result<Option<Next>, String> {
    let text = std::fs::read_to_string(&source.path)
        .map_err(|it| format!("cannot read `{}`: {it}", source.path.display()))?;
    let changes = config_schema::changes(&source.text, &text);
    let config = config_schema::load(&source.path).map_err(|it| it.to_string())?;
    if changes.is_empty() {
        return Ok(None);
    }
    let (before, after) = (&present.pool_manager, &config.pool_manager);
    credentials(after).map_err(|it| format!("{it:#}"))?;
    if let Some(misfit) = misfits(after).first() {
        return Err(misfit.to_string());
    }
    if before.data_dir != after.data_dir {
        return Err("/pool_manager/data_dir: cannot change while engines are kept there".into());
    }
    listenable(before, after)?;
    let previous = keep_present(source, present)?;
    Ok(Some(Next { previous, changes, ending: ending(before, after) }))
}

/// Keeps the present configuration, so that an operator who regrets the next one can put it back;
/// returns where.
///
/// # Errors
/// In words for the operator: then the next one must not be taken.
fn keep_present(source: &Source, present: &Config) -> Result<PathBuf, String> {
    let path = present.pool_manager.data_dir.join("config.previous.yaml");
    durable::write_bytes(&path, source.text.as_bytes())
        .map_err(|it| format!("the present one cannot be kept as `{}`: {it}", path.display()))?;
    Ok(path)
}

/// A new address that is taken would be found out when it is too late.
fn listenable(before: &ManagerConfig, after: &ManagerConfig) -> Result<(), String> {
    let known = before.bind.addresses();
    for (address, must) in after.bind.addresses() {
        if must && !known.contains(&(address, must)) {
            TcpListener::bind(address)
                .map_err(|it| format!("/pool_manager/bind: cannot listen on {address}: {it}"))?;
        }
    }
    Ok(())
}

fn ending(before: &ManagerConfig, after: &ManagerConfig) -> Vec<usize> {
    let host = |it: &ManagerConfig| (it.devices.clone(), it.engine_address, it.port_range);
    let stays =
        |index: &usize| host(before) == host(after) && after.pools.contains(&before.pools[*index]);
    (0..before.pools.len()).filter(|it| !stays(it)).collect()
}
