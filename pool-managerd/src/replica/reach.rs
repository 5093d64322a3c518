//! Where an engine is reached, and with which key.

use std::path::PathBuf;

use crate::engine::KeyedPort;

pub(super) enum Reach {
    Managed(KeyedPort),
    External { url: String, key: Option<String> },
}

impl Reach {
    /// Reads the key each time it is called: whoever restarts the server may have changed it.
    ///
    /// # Errors
    /// One sentence: the key file cannot be read or is empty.
    pub(super) fn external(url: String, key_file: Option<PathBuf>) -> Result<Self, String> {
        let Some(path) = key_file else { return Ok(Self::External { url, key: None }) };
        let key = std::fs::read_to_string(&path)
            .map_err(|it| format!("cannot read the engine's key `{}`: {it}", path.display()))?;
        match key.trim() {
            "" => Err(format!("the engine's key file `{}` is empty", path.display())),
            key => Ok(Self::External { url, key: Some(key.to_owned()) }),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Managed(at) => at.url(),
            Self::External { url, .. } => url.clone(),
        }
    }

    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Managed(at) => Some(&at.key),
            Self::External { key, .. } => key.as_deref(),
        }
    }
}
