//! The manager's metrics: one declaration, one place that moves them.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::supervisor::Failure;

/// From a tiny model on an SSD to a large one over a network.
const LOAD_MS: [f64; 9] =
    [100., 500., 1_000., 5_000., 15_000., 30_000., 60_000., 180_000., 600_000.];

pub(crate) struct Telemetry {
    registry: Registry,
    restarts: IntCounterVec,
    loads: IntCounterVec,
    load_ms: HistogramVec,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let build = IntGaugeVec::new(Opts::new("build_info", "Constant 1"), &["version"])
            .expect("a valid name");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let restarts = IntCounterVec::new(
            Opts::new(
                "engine_restarts_total",
                "Restarts of engines, by what had brought them down",
            ),
            &["pool_id", "cause"],
        )
        .expect("a valid name");
        let loads = IntCounterVec::new(
            Opts::new("model_loads_total", "Ended model loads"),
            &["model_id", "outcome"],
        )
        .expect("a valid name");
        let load_ms = HistogramVec::new(
            HistogramOpts::new("model_load_ms", "From start to ready").buckets(LOAD_MS.to_vec()),
            &["model_id", "outcome"],
        )
        .expect("a valid name");
        let all: [Box<dyn prometheus::core::Collector>; 4] = [
            Box::new(build),
            Box::new(restarts.clone()),
            Box::new(loads.clone()),
            Box::new(load_ms.clone()),
        ];
        for metric in all {
            registry.register(metric).expect("each name is declared once");
        }
        Self { registry, restarts, loads, load_ms }
    }

    /// The exposition text (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut out = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut out)
            .expect("a vector takes every byte");
        out
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^52")]
    pub(crate) fn loaded(&self, model: &str, took_ms: u64) {
        self.loads.with_label_values(&[model, "ready"]).inc();
        self.load_ms.with_label_values(&[model, "ready"]).observe(took_ms as f64);
    }

    pub(crate) fn load_failed(&self, model: &str, cause: Failure) {
        let outcome = match cause {
            // Refused before anything was loaded.
            Failure::Check | Failure::Spawn => "refused",
            Failure::Exit
            | Failure::Signal
            | Failure::StartTimeout
            | Failure::Health
            | Failure::Probe => "failed",
        };
        self.loads.with_label_values(&[model, outcome]).inc();
    }

    pub(crate) fn restarted(&self, pool: &str, cause: Failure) {
        self.restarts.with_label_values(&[pool, cause.as_str()]).inc();
    }
}
