//! Before a load: can it work at all? Failing here costs milliseconds and names the cause; failing
//! in the engine costs a load and names a line of its log.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>
const GGUF_MAGIC: [u8; 4] = *b"GGUF";

pub(crate) struct Needs {
    pub(crate) model: PathBuf,
    /// What the device may give, in bytes.
    pub(crate) device_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("cannot open the model file `{path}`: {source}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("the model `{path}` is not a file")]
    NotFile { path: PathBuf },
    #[error("`{path}` is not a GGUF model: it starts with {found:?}, expected \"GGUF\"")]
    NotGguf { path: PathBuf, found: String },
    #[error(
        "the model needs about {needed_mib} MiB and the device may give {device_mib} MiB: choose a \
         smaller model or raise `memory_mib`"
    )]
    Device { needed_mib: u64, device_mib: u64 },
    #[error(
        "the model needs about {needed_mib} MiB and {available_mib} MiB of memory are free: stop \
         other programs or choose a smaller model"
    )]
    Memory { needed_mib: u64, available_mib: u64 },
}

/// Checks the file and the memory it will take. Blocks for as long as the file system does.
pub(crate) fn check(needs: &Needs) -> Result<(), CheckError> {
    let path = || needs.model.clone();
    let open = |source| CheckError::Open { path: path(), source };
    // Asked by name first: opening a pipe would wait for its writer.
    if !std::fs::metadata(&needs.model).map_err(open)?.is_file() {
        return Err(CheckError::NotFile { path: path() });
    }
    let mut file = File::open(&needs.model).map_err(open)?;
    let size = file.metadata().map_err(open)?.len();
    let mut magic = [0; 4];
    let read = file.read(&mut magic).map_err(open)?;
    if magic != GGUF_MAGIC {
        let found = String::from_utf8_lossy(&magic[..read]).into_owned();
        return Err(CheckError::NotGguf { path: path(), found });
    }
    // Weights are mapped as they are; a tenth covers buffers of small contexts. A better estimate
    // from the metadata comes with model loading.
    let needed = size.saturating_add(size / 10);
    let needed_mib = needed.div_ceil(1 << 20);
    if needs.device_bytes < needed {
        return Err(CheckError::Device { needed_mib, device_mib: needs.device_bytes >> 20 });
    }
    match meminfo("MemAvailable:") {
        Some(available) if available < needed => {
            Err(CheckError::Memory { needed_mib, available_mib: available >> 20 })
        }
        Some(_) | None => Ok(()),
    }
}

/// A line of `/proc/meminfo`, in bytes; `None` where there is none.
pub(crate) fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests;
