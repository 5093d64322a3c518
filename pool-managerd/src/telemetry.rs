//! The manager's metrics: declared in `metrics`, moved here and nowhere else.

use http_shell::{Counters, Exposition, Histograms};
use metrics::pool_manager as family;

use crate::supervisor::Failure;

pub(crate) struct Telemetry {
    exposition: Exposition,
    restarts: Counters,
    loads: Counters,
    load_ms: Histograms,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let exposition = Exposition::default();
        exposition.gauges(&family::BUILD_INFO).with(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            restarts: exposition.counters(&family::ENGINE_RESTARTS),
            loads: exposition.counters(&family::MODEL_LOADS),
            load_ms: exposition.histograms(&family::MODEL_LOAD_MS),
            exposition,
        }
    }

    pub(crate) fn render(&self) -> Vec<u8> {
        self.exposition.render()
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^52")]
    pub(crate) fn loaded(&self, model: &str, took_ms: u64) {
        self.loads.with(&[model, "ready"]).inc();
        self.load_ms.with(&[model, "ready"]).observe(took_ms as f64);
    }

    pub(crate) fn load_failed(&self, model: &str, cause: Failure) {
        let outcome = match cause {
            // Refused before anything was loaded.
            Failure::Check | Failure::Memory | Failure::Spawn => "refused",
            Failure::DeviceOom | Failure::HostOom => "oom",
            Failure::Exit
            | Failure::Signal
            | Failure::StartTimeout
            | Failure::Health
            | Failure::Probe => "failed",
        };
        self.loads.with(&[model, outcome]).inc();
    }

    pub(crate) fn restarted(&self, pool: &str, cause: Failure) {
        self.restarts.with(&[pool, cause.as_str()]).inc();
    }
}
