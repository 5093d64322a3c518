//! The manager's metrics: declared in `metrics`, moved here and nowhere else.

use http_shell::{Counters, Exposition, Gauges, Histograms, Ratios};
use metrics::pool_manager as family;

use crate::devices::{Reading, TroubleKind};
use crate::supervisor::Failure;

pub(crate) struct Telemetry {
    exposition: Exposition,
    restarts: Counters,
    loads: Counters,
    load_ms: Histograms,
    driver_resets: Counters,
    utilization: Ratios,
    vram_used: Gauges,
    vram_total: Gauges,
    temperature: Gauges,
    power: Ratios,
    kv_cache_usage: Ratios,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let exposition = Exposition::default();
        exposition.gauges(&family::BUILD_INFO).with(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            restarts: exposition.counters(&family::ENGINE_RESTARTS),
            loads: exposition.counters(&family::MODEL_LOADS),
            load_ms: exposition.histograms(&family::MODEL_LOAD_MS),
            driver_resets: exposition.counters(&family::DRIVER_RESETS),
            utilization: exposition.ratios(&family::GPU_UTILIZATION),
            vram_used: exposition.gauges(&family::VRAM_USED),
            vram_total: exposition.gauges(&family::VRAM_TOTAL),
            temperature: exposition.gauges(&family::GPU_TEMPERATURE),
            power: exposition.ratios(&family::GPU_POWER),
            kv_cache_usage: exposition.ratios(&family::KV_CACHE_USAGE),
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
            | Failure::Device
            | Failure::StartTimeout
            | Failure::Health
            | Failure::Probe => "failed",
        };
        self.loads.with(&[model, outcome]).inc();
    }

    pub(crate) fn restarted(&self, pool: &str, cause: Failure) {
        self.restarts.with(&[pool, cause.as_str()]).inc();
    }

    /// An engine was stopped because its device had failed.
    pub(crate) fn driver_reset(&self, pool: &str, kind: TroubleKind) {
        self.driver_resets.with(&[pool, kind.as_str()]).inc();
    }

    /// How full a replica's KV cache is, by engine, version, pool and replica; `None` is no longer shown.
    pub(crate) fn kv_cache_usage(&self, labels: &[&str; 4], usage: Option<f64>) {
        match usage {
            Some(usage) => self.kv_cache_usage.with(labels).set(usage),
            None => self.kv_cache_usage.forget(labels),
        }
    }

    /// A device's present figures; what it does not tell has no series.
    pub(crate) fn device(&self, pool: &str, device: &str, reading: &Reading) {
        let labels = &[pool, device];
        let bytes = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        self.vram_used.with(labels).set(bytes(reading.used_bytes));
        self.vram_total.with(labels).set(bytes(reading.total_bytes));
        if let Some(it) = reading.utilization_percent {
            self.utilization.with(labels).set(f64::from(it) / 100.0);
        }
        if let Some(it) = reading.temperature_celsius {
            self.temperature.with(labels).set(it.into());
        }
        if let Some(it) = reading.power_milliwatts {
            self.power.with(labels).set(f64::from(it) / 1_000.0);
        }
    }
}
