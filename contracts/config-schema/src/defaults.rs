//! The defaults as an operator would write them, read off a resolved [`Config`].
//!
//! Keys whose absence means more than any value does (`bind`, `port_range`, a missing file) are
//! not here; their doc comments tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::{Class, Config, EngineSource, PoolConfig, Profile};
use crate::document::Document;

/// JSON Pointers, with `0` for each element of a list, and the defaults there.
pub(crate) fn of(profile: Profile) -> BTreeMap<&'static str, Value> {
    // A pool has defaults once there is one.
    let document = json!({
        "profile": profile,
        "pool_manager": {"pools": [{"id": "a", "engine": "llamacpp", "model": {"id": "a"}}]},
    });
    let document: Document = serde_json::from_value(document).expect("it has the right form");
    let config = Config::resolve(document);
    let mut all = of_orchestrator(&config);
    all.extend(of_manager(&config));
    all
}

fn of_orchestrator(it: &Config) -> BTreeMap<&'static str, Value> {
    let Config { queue, watchdog, limits, stream, retention, .. } = it;
    let mut all = BTreeMap::from([
        ("/profile", json!(Profile::default())),
        ("/allowed_hosts", json!(it.allowed_hosts)),
        ("/keys", json!([])),
        ("/queue/capacity", json!(queue.capacity)),
        ("/queue/full_policy", json!(queue.full_policy)),
        ("/queue/unready_wait_ms", json!(queue.unready_wait_ms)),
        ("/queue/interactive_headroom_slots", json!(queue.interactive_headroom_slots)),
        ("/tenants", json!([])),
        ("/models", json!([])),
        ("/sampler_profiles", json!([])),
        ("/fairness/input_token_cost", json!(it.fairness.input_token_cost)),
        ("/fairness/output_token_cost", json!(it.fairness.output_token_cost)),
        ("/deadlines/on_time_percent_min", json!(it.deadlines.on_time_percent_min)),
        ("/swap/min_resident_ms", json!(it.swap.min_resident_ms)),
        ("/swap/max_wait_ms", json!(it.swap.max_wait_ms)),
        ("/swap/idle_ttl_ms", json!(it.swap.idle_ttl_ms)),
        ("/preemption/mode", json!(it.preemption.mode)),
        ("/preemption/max_per_min", json!(it.preemption.max_per_min)),
        ("/sessions/ttl_ms", json!(it.sessions.ttl_ms)),
        ("/sessions/turns", json!(it.sessions.turns)),
        ("/sessions/concurrent", json!(it.sessions.concurrent)),
        ("/sessions/max_per_tenant", json!(it.sessions.max_per_tenant)),
        ("/classes/mode", json!(it.classes.mode)),
        ("/watchdog/wall_ms", json!(watchdog.wall_ms)),
        ("/watchdog/idle_ms", json!(watchdog.idle_ms)),
        ("/watchdog/first_token_ms", json!(watchdog.first_token_ms)),
        ("/limits/body_bytes", json!(limits.body_bytes)),
        ("/limits/header_bytes", json!(limits.header_bytes)),
        ("/limits/header_timeout_ms", json!(limits.header_timeout_ms)),
        ("/limits/body_timeout_ms", json!(limits.body_timeout_ms)),
        ("/limits/connections", json!(limits.connections)),
        ("/stream/heartbeat_ms", json!(stream.heartbeat_ms)),
        ("/stream/reader_lag_bytes", json!(stream.reader_lag_bytes)),
        ("/stream/memory_bytes", json!(stream.memory_bytes)),
        ("/stream/write_stall_ms", json!(stream.write_stall_ms)),
        ("/sse/metrics", json!(it.sse.metrics)),
        ("/journal/durability", json!(it.journal.durability)),
        ("/journal/data_dir", json!(it.journal.data_dir)),
        ("/retention/ttl_ms", json!(retention.ttl_ms)),
        ("/retention/bytes", json!(retention.bytes)),
        ("/retention/tasks", json!(retention.tasks)),
        ("/artifacts/quota_bytes", json!(it.artifacts.quota_bytes)),
        ("/artifacts/ttl_ms", json!(it.artifacts.ttl_ms)),
        ("/log/level", json!(it.log.level)),
        ("/drain_ms", json!(it.drain_ms)),
        ("/release_timeout_ms", json!(it.release_timeout_ms)),
    ]);
    let Class { weight, max_wait_ms } = it.classes.interactive;
    all.insert("/classes/interactive/weight", json!(weight));
    all.insert("/classes/interactive/max_wait_ms", json!(max_wait_ms));
    let Class { weight, max_wait_ms } = it.classes.batch;
    all.insert("/classes/batch/weight", json!(weight));
    all.insert("/classes/batch/max_wait_ms", json!(max_wait_ms));
    all
}

fn of_manager(it: &Config) -> BTreeMap<&'static str, Value> {
    let manager = &it.pool_manager;
    let mut all = BTreeMap::from([
        ("/pool_manager/allowed_hosts", json!(manager.allowed_hosts)),
        ("/pool_manager/data_dir", json!(manager.data_dir)),
        ("/pool_manager/engine_address", json!(manager.engine_address)),
        ("/pool_manager/on_manager_exit", json!(manager.on_manager_exit)),
    ]);
    for pool in &manager.pools {
        all.extend(of_pool(pool));
    }
    all
}

fn of_pool(it: &PoolConfig) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("/pool_manager/pools/0/model/aliases", json!(it.model_aliases)),
        ("/pool_manager/pools/0/residency", json!(it.residency)),
        ("/pool_manager/pools/0/replicas", json!(it.replicas)),
        ("/pool_manager/pools/0/start_timeout_ms", json!(it.start_timeout_ms)),
        ("/pool_manager/pools/0/restart/backoff_ms", json!(it.restart.backoff_ms)),
        ("/pool_manager/pools/0/restart/backoff_max_ms", json!(it.restart.backoff_max_ms)),
        ("/pool_manager/pools/0/restart/breaker_failures", json!(it.restart.breaker_failures)),
        ("/pool_manager/pools/0/restart/breaker_ms", json!(it.restart.breaker_ms)),
    ];
    if let EngineSource::Managed { flags, env, context_tokens, stop_grace_ms, .. } = &it.source {
        all.extend([
            ("/pool_manager/pools/0/flags", json!(flags)),
            ("/pool_manager/pools/0/env", json!(env)),
            ("/pool_manager/pools/0/model/context_tokens", json!(context_tokens)),
            ("/pool_manager/pools/0/stop_grace_ms", json!(stop_grace_ms)),
        ]);
    }
    all
}

#[cfg(test)]
mod tests;
