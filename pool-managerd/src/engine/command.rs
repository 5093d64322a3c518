//! The command line and environment of a managed engine.

use std::ffi::OsString;
use std::path::PathBuf;

use config_schema::{EngineSource, PoolConfig};

use super::template::Template;
use super::{Environment, KeyedPort};
use crate::devices::Grant;

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
        grant: &Grant,
    ) -> Result<Self, String> {
        let EngineSource::Managed { flags, env, user, .. } = &pool.source else {
            return Err("an external pool has no process".into());
        };
        let user = user.as_deref().map(User::named).transpose()?;
        let template = Template::of(pool, at, grant).ok_or("an external pool has no process")?;
        let Template { program, mut arguments, environment: own } = template;
        arguments.extend(flags.iter().map(OsString::from));
        let mut environment = inherited.clone();
        let named = |(name, value): (&'static str, String)| (name.to_owned(), value);
        environment.extend(own.into_iter().map(named));
        environment.extend(env.clone());
        environment.extend(grant.mask.iter().cloned().map(named));
        Ok(Self { program, arguments, environment, user })
    }
}
