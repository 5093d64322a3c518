//! The moment between the end that a reader sees and the one that the core hears of.

use std::sync::Arc;

use api_types::{FinishReason, TaskRequest};
use config_schema::{Config, parse};
use orchestrator_core::TenantId;
use pool_api::{Determinism, Engine, Origin, Pool, Replica, ReplicaState, Residency, Snapshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::admission::{prepare, validate};
use crate::clock::Clock;
use crate::driver::{Command, Driver, Submission, SubmitReply, build, close_with_end};
use crate::fleet::{Commander, Directory, FleetChange};
use crate::telemetry::Telemetry;
use crate::tenants::Tenants;

fn pool() -> Pool {
    Pool {
        pool_id: "p0".into(),
        engine: Engine::Llamacpp,
        workload: pool_api::Workload::Completion,
        determinism: Determinism::Unproved { reason: "it is a test".into() },
        origin: Origin::Managed,
        model_id: "tiny".into(),
        devices: vec!["cpu0".into()],
        spread: 0,
        residency: Residency::Pinned,
        idle_ttl_ms: None,
        draining: false,
        replicas: vec![Replica {
            replica_id: "p0-0".into(),
            model_id: "tiny".into(),
            model_aliases: Vec::new(),
            incarnation: 1,
            state: ReplicaState::Ready,
            // Nothing is ever sent: the attempts of these tests are not polled.
            endpoint: Some("http://127.0.0.1:9".into()),
            engine_key: None,
            engine_version: Some("b1-test".into()),
            model_digest: None,
            slots: 4,
            context_tokens: 1_024,
            chat_template: true,
            last_error: None,
            restarts: 0,
            pid: None,
            memory: Vec::new(),
            load_ms: None,
            load: None,
        }],
    }
}

fn driver(config: &Config) -> Driver {
    let commander = Arc::new(Commander::new("http://127.0.0.1:9", None, 1));
    let directory = Directory::new(vec![commander], std::iter::empty(), 0);
    let own = (TaskTracker::new(), Clock::start());
    let shared = (Arc::new(Tenants::new(config)), None, None);
    let (mut driver, _) = build(config, directory, Arc::new(Telemetry::new()), own, shared);
    let snapshot = Snapshot {
        manager_instance: "test".into(),
        version: "0".into(),
        devices: Vec::new(),
        pools: vec![pool()],
    };
    driver.perform(Command::Fleet(FleetChange::Snapshot { manager: 0, snapshot }));
    driver
}

/// A turn that reserves nearly the whole budget.
async fn turn(driver: &Driver, config: &Config) -> Submission {
    let request = TaskRequest {
        prompt: Some(api_types::PromptInput::Text("a".into())),
        max_tokens: Some(900),
        session_id: Some("s".into()),
        ..TaskRequest::default()
    };
    let valid = validate(request, false).unwrap();
    let fleet = driver.fleet().now();
    let job = prepare(valid, &fleet, &config.sampler_profiles).await.unwrap();
    let tenant = driver.tenants.named("default").unwrap().clone();
    Submission { id: Uuid::new_v4(), tenant, job, correlation_id: "test".into() }
}

// ORCH-3021, ORCH-3099, OC-CORE-1023
#[tokio::test]
async fn who_has_read_the_end_of_a_turn_can_submit_the_next_one_at_once() {
    let text = "journal: {durability: memory}\n\
                sessions: {concurrent: reject, budgets: {tokens: 1000}}";
    let config = parse(text).unwrap();
    let mut driver = driver(&config);
    let [first, second, third] =
        [turn(&driver, &config).await, turn(&driver, &config).await, turn(&driver, &config).await];
    let SubmitReply::Admitted { record, .. } = driver.submit(first) else { panic!("refused") };
    let SubmitReply::Rejected(refused) = driver.submit(second) else { panic!("it is open") };
    assert_eq!(refused.code, api_types::ErrorCode::SessionBusy);
    record.update(|stream| close_with_end(stream, FinishReason::Stop, None));
    let admitted = matches!(driver.submit(third), SubmitReply::Admitted { .. });
    assert!(admitted, "the core has not heard of the end, but whoever reads has");
    let key = (TenantId(0), "s".to_owned());
    let tokens = driver.show_session(&key).unwrap().budgets.tokens.unwrap();
    assert!(tokens.reserved < 1_000, "{tokens:?}");
}
