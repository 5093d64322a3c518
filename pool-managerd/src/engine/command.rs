//! The command line and environment of a managed llama-server.

use std::ffi::OsString;
use std::path::PathBuf;

use config_schema::{EngineSource, PoolConfig};

use super::{Environment, KeyedPort};

/// What an engine may see of our environment: where programs, libraries, caches and devices are.
/// Nothing else, so that secrets in ours stay ours and an engine runs alike under a shell and a
/// service manager. A pool's `env` adds to it.
pub const INHERITED: [&str; 13] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_CACHE_PATH",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION",
];

pub(crate) struct EngineCommand {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Environment,
    /// Whose it is; `None`: ours.
    pub(crate) user: Option<User>,
}

/// User and group, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// Of a name in `/etc/passwd`; see passwd(5).
    fn named(name: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string("/etc/passwd")
            .map_err(|it| format!("cannot read /etc/passwd: {it}"))?;
        let found = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            Some(Self { uid, gid: fields.next()?.parse().ok()? })
        });
        found.ok_or_else(|| format!("there is no user `{name}` in /etc/passwd"))
    }
}

impl EngineCommand {
    /// # Errors
    /// One sentence: the user is unknown, or the pool is external.
    pub(crate) fn new(
        pool: &PoolConfig,
        at: &KeyedPort,
        inherited: &Environment,
        mask: Vec<(&'static str, String)>,
    ) -> Result<Self, String> {
        let EngineSource::Managed {
            bin, flags, env, user, model_path, context_tokens, slots, ..
        } = &pool.source
        else {
            return Err("an external pool has no process".into());
        };
        let user = user.as_deref().map(User::named).transpose()?;
        // The server divides its context evenly among its slots, but only when their number is
        // given: its automatic choice lets them overcommit one pool and fail together.
        let total = u64::from(context_tokens.get()) * u64::from(slots.get());
        let mut arguments: Vec<OsString> = vec!["-m".into(), model_path.into()];
        let fixed = [
            ("--host", at.host()),
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
        if let Some(split) = &pool.split {
            let ratios: Vec<String> = split.iter().map(ToString::to_string).collect();
            arguments.extend(["-ts".into(), ratios.join(",").into()]);
        }
        arguments.extend(flags.iter().map(OsString::from));
        let mut environment = inherited.clone();
        environment.extend(env.clone());
        environment.extend(mask.into_iter().map(|(name, value)| (name.to_owned(), value)));
        // Not on the command line, where every user of the machine could read it.
        environment.insert("LLAMA_API_KEY".into(), at.key.clone());
        let program = bin.clone().unwrap_or_else(|| "llama-server".into());
        Ok(Self { program, arguments, environment, user })
    }
}
