//! The declarations.

use crate::{Family, Kind, Label};

pub const LABELS: &[Label] = &[
    Label { name: "cause", budget: 32, meaning: "why an engine was restarted" },
    Label { name: "device", budget: 64, meaning: "id of a device" },
    Label { name: "engine", budget: 8, meaning: "kind of engine; `unknown` before one is known" },
    Label { name: "engine_version", budget: 64, meaning: "what the engine says of itself" },
    Label {
        name: "fallback",
        budget: 2,
        meaning: "whether a wish for pools was not met: yes or no",
    },
    Label { name: "kind", budget: 3, meaning: "which budget: tokens, time or cost" },
    Label {
        name: "mode",
        budget: 4,
        meaning: "`hard`: stopped while it ran; `failover`: its engine or the daemon was lost",
    },
    Label { name: "model_id", budget: 1_024, meaning: "id of a model" },
    Label { name: "outcome", budget: 8, meaning: "how it ended" },
    Label { name: "pinned", budget: 2, meaning: "whether the task is bound to pools: yes or no" },
    Label { name: "policy", budget: 4, meaning: "what a full queue did" },
    Label { name: "pool_id", budget: 256, meaning: "id of a pool" },
    Label { name: "priority", budget: 2, meaning: "`interactive` or `batch`" },
    Label { name: "reason", budget: 32, meaning: "why" },
    Label { name: "replica_id", budget: 1_024, meaning: "id of a replica; no incarnation" },
    Label { name: "tenant", budget: 256, meaning: "whose tasks" },
    Label { name: "version", budget: 1, meaning: "version of the daemon" },
];

const REPLICA: &[&str] = &["engine", "engine_version", "pool_id", "replica_id"];
const LATENCY: &[&str] = &["engine", "engine_version", "pool_id", "priority"];
const DEVICE: &[&str] = &["pool_id", "device"];
const LOAD: &[&str] = &["model_id", "outcome"];

/// Families that orchestratord exports.
pub mod orchestrator {
    use super::{Family, Kind, LATENCY, LOAD, REPLICA};

    pub const BUILD_INFO: Family = Family {
        name: "build_info",
        help: "Constant 1",
        kind: Kind::Gauge,
        labels: &["version"],
        requirement: "OC-CTRL-2051",
        without_engine: Some("describes the daemon"),
    };
    pub const TASKS_ENQUEUED: Family = Family {
        name: "tasks_enqueued_total",
        help: "Admitted tasks",
        kind: Kind::Counter,
        labels: &["engine", "priority"],
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const TASKS_STARTED: Family = Family {
        name: "tasks_started_total",
        help: "Attempts handed to a replica",
        kind: Kind::Counter,
        labels: &["engine", "engine_version", "pool_id", "replica_id", "priority"],
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const TASKS_CANCELED: Family = Family {
        name: "tasks_canceled_total",
        help: "Cancelled tasks",
        kind: Kind::Counter,
        labels: &["engine", "reason"],
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const TASKS_REJECTED: Family = Family {
        name: "tasks_rejected_total",
        help: "Refused submissions",
        kind: Kind::Counter,
        labels: &["engine", "reason"],
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const TASKS_FINISHED: Family = Family {
        name: "tasks_finished_total",
        help: "Ended tasks",
        kind: Kind::Counter,
        labels: &["engine", "outcome"],
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const BACKPRESSURE: Family = Family {
        name: "admission_backpressure_events_total",
        help: "Times a full queue refused or pushed out a task",
        kind: Kind::Counter,
        labels: &["engine", "policy"],
        requirement: "ORCH-3004",
        without_engine: None,
    };
    pub const TOKENS_IN: Family = Family {
        name: "tokens_in_total",
        help: "Prompt tokens of completed attempts",
        kind: Kind::Counter,
        labels: REPLICA,
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const TOKENS_OUT: Family = Family {
        name: "tokens_out_total",
        help: "Generated tokens",
        kind: Kind::Counter,
        labels: REPLICA,
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const QUEUE_DEPTH: Family = Family {
        name: "queue_depth",
        help: "Waiting tasks",
        kind: Kind::Gauge,
        labels: &["engine", "model_id", "priority"],
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const QUEUE_WAIT: Family = Family {
        name: "queue_wait_ms",
        help: "From admission to dispatch, or to the end of a task that was never dispatched",
        kind: Kind::Histogram(&[1., 10., 50., 200., 1_000., 5_000., 15_000., 60_000., 300_000.]),
        labels: &["priority", "tenant", "outcome"],
        requirement: "ORCH-3028",
        without_engine: Some("waiting happens before an engine is chosen"),
    };
    pub const FIRST_TOKEN: Family = Family {
        name: "latency_first_token_ms",
        help: "From dispatch to the first token",
        kind: Kind::Histogram(&[
            50., 100., 150., 200., 300., 500., 750., 1_000., 1_500., 2_000., 3_000.,
        ]),
        labels: LATENCY,
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const DECODE: Family = Family {
        name: "latency_decode_ms",
        help: "From the first token to the last",
        kind: Kind::Histogram(&[
            250., 500., 1_000., 1_500., 2_000., 3_000., 4_000., 6_000., 8_000., 12_000.,
        ]),
        labels: LATENCY,
        requirement: "ORCH-3028",
        without_engine: None,
    };
    pub const PLACEMENTS: Family = Family {
        name: "placement_decisions_total",
        help: "Choices of a replica, by what decided",
        kind: Kind::Counter,
        labels: &["outcome", "pinned", "fallback"],
        requirement: "ORCH-3094",
        without_engine: Some("one decision weighs replicas of several engines"),
    };
    pub const PREEMPTIONS: Family = Family {
        name: "preemptions_total",
        help: "Running tasks told to stop for others",
        kind: Kind::Counter,
        labels: &["mode", "engine"],
        requirement: "ORCH-3087",
        without_engine: None,
    };
    pub const RESUMPTIONS: Family = Family {
        name: "resumptions_total",
        help: "Answers that went on in a further attempt",
        kind: Kind::Counter,
        labels: &["mode", "engine"],
        requirement: "ORCH-3087",
        without_engine: None,
    };
    pub const MODEL_SWAPS: Family = Family {
        name: "model_swaps_total",
        help: "Loads that waiting tasks have caused",
        kind: Kind::Counter,
        labels: LOAD,
        requirement: "ORCH-4010",
        without_engine: Some("told by model, whichever engine loads it"),
    };
    pub const ADMISSION_SHARE: Family = Family {
        name: "admission_share",
        help: "A tenant's share of the tokens of about the last 100 ended tasks",
        kind: Kind::Gauge,
        labels: &["tenant", "priority"],
        requirement: "ORCH-3077",
        without_engine: Some("tenants share all engines"),
    };
    pub const DEADLINES_MET: Family = Family {
        name: "deadlines_met_ratio",
        help: "Part of about the last 100 tasks with a deadline that met it",
        kind: Kind::Gauge,
        labels: &["priority"],
        requirement: "ORCH-3081",
        without_engine: Some("a deadline is the caller's, whichever engine runs the task"),
    };
    pub const JOURNAL_COMMIT: Family = Family {
        name: "journal_commit_ms",
        help: "What one commit of the journal takes",
        kind: Kind::Histogram(&[
            0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 2_000.0,
        ]),
        labels: &[],
        requirement: "OC-CTRL-2051",
        without_engine: Some("one journal for all"),
    };
    pub const SESSIONS_ACTIVE: Family = Family {
        name: "sessions_active",
        help: "Sessions that have not ended",
        kind: Kind::Gauge,
        labels: &[],
        requirement: "ORCH-3022",
        without_engine: Some("its turns may run on several engines"),
    };
    pub const SESSION_EVICTIONS: Family = Family {
        name: "session_evictions_total",
        help: "Sessions that lost their place in a cache: unused (ttl), used up (turns), or too many \
               (capacity)",
        kind: Kind::Counter,
        labels: &["reason"],
        requirement: "ORCH-3022",
        without_engine: Some("its turns may run on several engines"),
    };
    pub const BUDGET_REJECTIONS: Family = Family {
        name: "budget_rejections_total",
        help: "Turns refused because their session's budget does not suffice",
        kind: Kind::Counter,
        labels: &["kind"],
        requirement: "ORCH-3099",
        without_engine: Some("a budget is a session's, on whatever engine it runs"),
    };
    pub const STREAM_SUBSCRIBERS: Family = Family {
        name: "stream_subscribers",
        help: "Open streams",
        kind: Kind::Gauge,
        labels: &[],
        requirement: "OC-CTRL-2051",
        without_engine: Some("a stream outlives its attempts"),
    };
}

/// Families that pool-managerd exports.
pub mod pool_manager {
    use super::{DEVICE, Family, Kind, LOAD, REPLICA};

    pub use super::orchestrator::BUILD_INFO;

    pub const ENGINE_RESTARTS: Family = Family {
        name: "engine_restarts_total",
        help: "Restarts of engines, by what had brought them down",
        kind: Kind::Counter,
        labels: &["pool_id", "cause"],
        requirement: "ORCH-3038",
        without_engine: Some("a pool has one engine; `pool_id` tells which"),
    };
    pub const GPU_UTILIZATION: Family = Family {
        name: "gpu_utilization",
        help: "Time in which the device computed, from 0 to 1",
        kind: Kind::Gauge,
        labels: DEVICE,
        requirement: "OC-POOL-3031",
        without_engine: Some("describes a device; `pool_id` tells who uses it"),
    };
    pub const VRAM_USED: Family = Family {
        name: "vram_used_bytes",
        help: "Memory in use on the device, whoever uses it",
        kind: Kind::Gauge,
        labels: DEVICE,
        requirement: "OC-POOL-3031",
        without_engine: Some("describes a device; `pool_id` tells who uses it"),
    };
    pub const VRAM_TOTAL: Family = Family {
        name: "vram_total_bytes",
        help: "Memory of the device",
        kind: Kind::Gauge,
        labels: DEVICE,
        requirement: "OC-POOL-3031",
        without_engine: Some("describes a device; `pool_id` tells who uses it"),
    };
    pub const GPU_TEMPERATURE: Family = Family {
        name: "gpu_temperature_celsius",
        help: "Temperature of the device",
        kind: Kind::Gauge,
        labels: DEVICE,
        requirement: "OC-POOL-3031",
        without_engine: Some("describes a device; `pool_id` tells who uses it"),
    };
    pub const GPU_POWER: Family = Family {
        name: "gpu_power_watts",
        help: "Power that the device draws",
        kind: Kind::Gauge,
        labels: DEVICE,
        requirement: "OC-POOL-3031",
        without_engine: Some("describes a device; `pool_id` tells who uses it"),
    };
    pub const DRIVER_RESETS: Family = Family {
        name: "driver_resets_total",
        help: "Engines stopped because their device had failed, by what it reported",
        kind: Kind::Counter,
        labels: &["pool_id", "cause"],
        requirement: "ORCH-3053",
        without_engine: Some("a pool has one engine; `pool_id` tells which"),
    };
    pub const KV_CACHE_USAGE: Family = Family {
        name: "kv_cache_usage_ratio",
        help: "Share of the KV cache in use, where the engine tells it",
        kind: Kind::Gauge,
        labels: REPLICA,
        requirement: "OC-POOL-3031",
        without_engine: None,
    };
    pub const MODEL_LOADS: Family = Family {
        name: "model_loads_total",
        help: "Ended model loads",
        kind: Kind::Counter,
        labels: LOAD,
        requirement: "ORCH-3002",
        without_engine: Some("told by model, whichever engine loads it"),
    };
    pub const MODEL_LOAD_MS: Family = Family {
        name: "model_load_ms",
        help: "From start to ready",
        // From a tiny model on an SSD to a large one over a network.
        kind: Kind::Histogram(&[
            100., 500., 1_000., 5_000., 15_000., 30_000., 60_000., 180_000., 600_000.,
        ]),
        labels: LOAD,
        requirement: "ORCH-3002",
        without_engine: Some("told by model, whichever engine loads it"),
    };
}

pub const ORCHESTRATOR: &[Family] = &[
    orchestrator::BUILD_INFO,
    orchestrator::TASKS_ENQUEUED,
    orchestrator::TASKS_STARTED,
    orchestrator::TASKS_CANCELED,
    orchestrator::TASKS_REJECTED,
    orchestrator::TASKS_FINISHED,
    orchestrator::BACKPRESSURE,
    orchestrator::TOKENS_IN,
    orchestrator::TOKENS_OUT,
    orchestrator::QUEUE_DEPTH,
    orchestrator::QUEUE_WAIT,
    orchestrator::FIRST_TOKEN,
    orchestrator::DECODE,
    orchestrator::PLACEMENTS,
    orchestrator::PREEMPTIONS,
    orchestrator::RESUMPTIONS,
    orchestrator::MODEL_SWAPS,
    orchestrator::ADMISSION_SHARE,
    orchestrator::DEADLINES_MET,
    orchestrator::JOURNAL_COMMIT,
    orchestrator::SESSIONS_ACTIVE,
    orchestrator::SESSION_EVICTIONS,
    orchestrator::BUDGET_REJECTIONS,
    orchestrator::STREAM_SUBSCRIBERS,
];

pub const POOL_MANAGER: &[Family] = &[
    pool_manager::BUILD_INFO,
    pool_manager::ENGINE_RESTARTS,
    pool_manager::GPU_UTILIZATION,
    pool_manager::VRAM_USED,
    pool_manager::VRAM_TOTAL,
    pool_manager::GPU_TEMPERATURE,
    pool_manager::GPU_POWER,
    pool_manager::DRIVER_RESETS,
    pool_manager::KV_CACHE_USAGE,
    pool_manager::MODEL_LOADS,
    pool_manager::MODEL_LOAD_MS,
];
