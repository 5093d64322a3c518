//! How full an engine's KV cache is, where the engine tells.

use std::sync::Arc;
use std::time::Duration;

use adapter_api::{Adapter, EngineError, Load};
use tokio_util::task::AbortOnDropHandle;

use super::Site;

/// Ends when dropped, and the figure is shown no longer.
pub(super) type KvCacheWatch = AbortOnDropHandle<()>;

const EVERY: Duration = Duration::from_secs(2);

/// `[engine, engine_version, pool_id, replica_id]`, as the metric has them.
pub(super) fn watch(site: Arc<Site>, engine: Arc<dyn Adapter>, of: [String; 4]) -> KvCacheWatch {
    let tracker = site.tracker.clone();
    let shown = Shown { site, of };
    AbortOnDropHandle::new(tracker.spawn(async move {
        loop {
            match engine.load().await {
                Ok(Load { kv_cache_usage: Some(usage), .. }) => shown.set(Some(usage)),
                // It never tells, so it is asked no more.
                Ok(Load { kv_cache_usage: None, .. }) | Err(EngineError::Unsupported { .. }) => {
                    return;
                }
                Err(_) => shown.set(None),
            }
            tokio::time::sleep(EVERY).await;
        }
    }))
}

struct Shown {
    site: Arc<Site>,
    of: [String; 4],
}

impl Shown {
    fn set(&self, usage: Option<f64>) {
        self.site.telemetry.kv_cache_usage(&self.of.each_ref().map(String::as_str), usage);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.set(None);
    }
}
