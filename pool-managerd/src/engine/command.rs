//! The command line and environment of a managed llama-server.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use config_schema::{EngineSource, PoolConfig};

use super::Environment;

/// What an engine may see of our environment: where programs, libraries, home and devices are.
/// Nothing else, so that our own secrets stay ours.
pub(crate) const INHERITED: [&str; 8] = [
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
];

pub(crate) struct EngineCommand {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Environment,
}

/// Where an incarnation listens, and the random key it demands.
#[derive(Clone)]
pub(crate) struct KeyedPort {
    pub(crate) port: u16,
    pub(crate) key: String,
}

impl KeyedPort {
    /// A port that is free now. Another program may take it before the engine does; the engine then
    /// exits and the next start takes another one.
    pub(crate) fn allocate(range: Option<(u16, u16)>) -> std::io::Result<Self> {
        let free = |port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .and_then(|it| it.local_addr())
                .map(|it| it.port())
        };
        let port = match range {
            None => free(0)?,
            Some((first, last)) => {
                (first..=last).find_map(|port| free(port).ok()).ok_or_else(|| {
                    std::io::Error::other(format!("no port of {first} to {last} is free"))
                })?
            }
        };
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        let key = bytes.iter().map(|it| format!("{it:02x}")).collect();
        Ok(Self { port, key })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl EngineCommand {
    /// `None` for an external pool.
    pub(crate) fn new(pool: &PoolConfig, at: &KeyedPort, inherited: &Environment) -> Option<Self> {
        let EngineSource::Managed { bin, flags, env, model_path, context_tokens, slots, .. } =
            &pool.source
        else {
            return None;
        };
        // The server divides its context evenly among its slots, but only when their number is given:
        // its automatic choice lets them overcommit one pool and fail together.
        let total = u64::from(context_tokens.get()) * u64::from(slots.get());
        let mut arguments: Vec<OsString> = vec!["-m".into(), model_path.into()];
        let fixed = [
            ("--host", "127.0.0.1".to_owned()),
            ("--port", at.port.to_string()),
            ("--alias", pool.model_id.clone()),
            ("-c", total.to_string()),
            ("-np", slots.to_string()),
            // A stream that is cut by SIGTERM closes at the next ping; the default is 30 s.
            ("--sse-ping-interval", "2".to_owned()),
        ];
        for (name, value) in fixed {
            arguments.extend([name.into(), value.into()]);
        }
        arguments.extend(["--metrics", "--slots", "--jinja"].map(OsString::from));
        arguments.extend(flags.iter().map(OsString::from));
        let mut environment = inherited.clone();
        environment.extend(env.clone());
        // Not on the command line, where every user of the machine could read it.
        environment.insert("LLAMA_API_KEY".into(), at.key.clone());
        let program = bin.clone().unwrap_or_else(|| "llama-server".into());
        Some(Self { program, arguments, environment })
    }
}
