//! Whose key it is, and the small integers the core knows tenants by.

use std::collections::HashMap;
use std::sync::Arc;

use config_schema::{Config, DEFAULT_TENANT};
use http_shell::Caller;
use orchestrator_core::TenantId;

/// A tenant as a request and its task carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: Arc<str>,
}

/// The tenants of the configuration, in its order; `default` is the first.
pub(crate) struct Tenants {
    all: Vec<Tenant>,
    by_key: HashMap<String, usize>,
}

impl Tenants {
    pub(crate) fn new(config: &Config) -> Self {
        let all: Vec<Tenant> = (0..)
            .zip(&config.tenants)
            .map(|(id, it)| Tenant { id: TenantId(id), name: it.name.as_str().into() })
            .collect();
        let index = |name: &str| config.tenants.iter().position(|it| it.name == name);
        let by_key = config
            .keys
            .iter()
            .map(|key| (key.name.clone(), index(&key.tenant).expect("keys name known tenants")))
            .collect();
        Self { all, by_key }
    }

    pub(crate) fn of(&self, caller: &Caller) -> &Tenant {
        match caller {
            Caller::Anonymous => &self.all[0],
            Caller::Key { name } => &self.all[self.by_key[name]],
        }
    }

    pub(crate) fn all(&self) -> &[Tenant] {
        &self.all
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Tenant> {
        self.all.iter().find(|it| it.name.as_ref() == name)
    }

    pub(crate) fn name(&self, id: TenantId) -> &str {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.all.get(index).map_or(DEFAULT_TENANT, |it| &it.name)
    }
}
