//! Examples as values of the wire types, so that they cannot fall behind them.

use api_types::{
    API_VERSION, Admission, Artifact, ArtifactKind, ArtifactRequest, Budget, Budgets, Capabilities,
    ChatMessage, Decision, DecisionCandidate, Detail, Device, DeviceList, DrainStatus, DropCount,
    End, EngineCapability, ErrorCode, ErrorEnvelope, Explanation, FinishReason, Latency, Links,
    MediaType, Model, ModelCapability, ModelList, ModelState, PlacementChoice, PlacementDrop, Pool,
    PoolHealth, PoolHealthMetrics, PoolList, Priority, PromptInput, Queue, QueueLane, Queued,
    QueuedReason, Readiness, ReloadRequest, ReloadStatus, Replica, ReplicaSet, ReplicaSetList,
    Session, Slo, Started, Task, TaskList, TaskPlacement, TaskRequest, TaskState, TaskTimings,
    TaskUsage, Token, Waiting,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;
use uuid::{Uuid, uuid};

use crate::stream::frame;
use crate::wire::envelope;

const TASK: Uuid = uuid!("6f2c1f0e-8a41-4c3e-9d5b-0b6a5d1c7e42");
const MODEL: &str = "qwen2.5-0.5b-instruct";
const DIGEST: &str = "sha256:74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db";
const VERSION: &str = "b6500";

pub(super) const METRICS: &str = "# TYPE tasks_enqueued_total counter\n\
                                  tasks_enqueued_total{engine=\"llamacpp\",priority=\"batch\"} 1\n";

pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("wire types always serialise")
}

pub(super) fn error(_status: u16, code: &str) -> Value {
    let known = ErrorCode::ALL.into_iter().find(|it| it.as_str() == code);
    let code = known.expect("only codes of the table are documented");
    let advised = matches!(code.status(), 429 | 503) || code == ErrorCode::SessionBusy;
    let detail = Detail {
        pointer: "/max_tokens".into(),
        found: "0".into(),
        expected: "1 to 1048576".into(),
    };
    json(&ErrorEnvelope {
        retry_after_ms: advised.then_some(1_000),
        policy_label: (code == ErrorCode::AdmissionReject).then(|| "reject".to_owned()),
        details: if code == ErrorCode::InvalidParams { vec![detail] } else { Vec::new() },
        ..envelope(code, "What was found, what was expected, and the fix.", "4f1d2c3b4a596877")
    })
}

/// Without what it leaves to its default.
pub(super) fn request() -> Value {
    let request = TaskRequest {
        task_id: Some(TASK),
        model_ref: Some(MODEL.into()),
        messages: Some(vec![ChatMessage { role: "user".into(), content: "Say hello.".into() }]),
        max_tokens: Some(64),
        priority: Priority::Batch,
        ..TaskRequest::default()
    };
    let (mut request, default) = (json(&request), json(&TaskRequest::default()));
    let fields = request.as_object_mut().expect("a request is an object");
    fields.retain(|name, value| *value != default[name]);
    request
}

pub(super) fn admission() -> Admission {
    let this = format!("/v1/tasks/{TASK}");
    Admission {
        task_id: TASK,
        state: TaskState::Queued,
        queue_position: 2,
        predicted_start_ms: 1_800,
        predicted_start_p90_ms: 4_200,
        backoff_ms: 0,
        seed: 1_234_567_890,
        session_id: None,
        ephemeral: true,
        links: Links { stream: format!("{this}/stream"), cancel: format!("{this}/cancel"), this },
    }
}

pub(super) fn task() -> Task {
    Task {
        task_id: TASK,
        state: TaskState::Completed,
        attempt: 1,
        model_id: MODEL.into(),
        tenant: "default".into(),
        timings: TaskTimings {
            queue_time_ms: Some(1_750),
            first_token_ms: Some(85),
            decode_time_ms: Some(12),
        },
        usage: TaskUsage { tokens_in: 12, tokens_out: 2 },
        placement: Some(TaskPlacement {
            pool_id: "gpu0".into(),
            replica_id: "gpu0-0".into(),
            engine: "llamacpp".into(),
            engine_version: VERSION.into(),
            model_digest: Some(DIGEST.into()),
        }),
        seed: 1_234_567_890,
        finish_reason: Some(FinishReason::Stop),
        text: Some("Hello!".into()),
        result: None,
        error: None,
        transcript_id: None,
        record: Some(Box::new(TaskRequest {
            model_ref: Some(MODEL.into()),
            prompt: Some(PromptInput::Text("Say hello.".into())),
            max_tokens: Some(512),
            seed: Some(1_234_567_890),
            ..TaskRequest::default()
        })),
    }
}

pub(super) fn session() -> Session {
    let (used, reserved) = (1_412, 524);
    let tokens = Budget { limit: 20_000, used, reserved, remaining: 20_000 - used - reserved };
    Session {
        session_id: "chat-7".into(),
        turns: 3,
        turns_left: Some(5),
        age_ms: 94_210,
        idle_ms: None,
        ttl_remaining_ms: 600_000,
        pool_id: Some("gpu0".into()),
        replica_id: Some("gpu0-0".into()),
        kv_warmth: true,
        budgets: Budgets { tokens: Some(tokens), ..Budgets::default() },
        tasks: vec![TASK],
    }
}

pub(super) fn artifact_request() -> ArtifactRequest {
    ArtifactRequest {
        kind: ArtifactKind::Summary,
        content: to_raw_value("Two tests fail: the clock is read twice.")
            .expect("it is plain JSON"),
        tags: vec!["run:412".into()],
        parents: vec![DIGEST.into()],
    }
}

pub(super) fn artifact(whole: bool) -> Artifact {
    let ArtifactRequest { kind, content, tags, parents } = artifact_request();
    Artifact {
        artifact_id: "sha256:caceca1f0ccf18520a69bfe45aa063c040c60a7834ff7d9a9a5dc1ef50598f55"
            .into(),
        kind,
        media_type: MediaType::Text,
        bytes: 40,
        created_at_ms: 1_790_000_000_000,
        tags,
        parents,
        task_id: None,
        content: whole.then_some(content),
    }
}

pub(super) fn tasks() -> TaskList {
    let task = Task { text: None, record: None, ..task() };
    TaskList { tasks: vec![task], next_cursor: Some("2a".into()) }
}

/// A stream as it begins for who submitted the task in the same request.
pub(super) fn admitted() -> Queued {
    Queued::Admitted { admission: Box::new(admission()), reason: QueuedReason::WaitingForSlot }
}

/// A stream as it begins for who joins while the task waits.
pub(super) fn waiting() -> Queued {
    Queued::Waiting {
        queue_position: 2,
        predicted_start_ms: 1_800,
        reason: QueuedReason::LoadingModel,
        load_progress: Some(0.45),
    }
}

/// A whole stream that begins with `queued`.
pub(super) fn frames(queued: &Queued) -> Value {
    let started = Started {
        queue_position: 2,
        predicted_start_ms: 1_800,
        queue_time_ms: 1_750,
        engine: "llamacpp".into(),
        engine_version: VERSION.into(),
        pool_id: "gpu0".into(),
        replica_id: "gpu0-0".into(),
        model_id: MODEL.into(),
        model_digest: Some(DIGEST.into()),
        kv_warmth: false,
        attempt: 1,
        seed: 1_234_567_890,
        settings_left_out: Vec::new(),
    };
    let token = |t: &str, i| Token { t: t.into(), i, n: 1, ids: None };
    let end = End {
        tokens_in: 12,
        tokens_out: 2,
        queue_time_ms: 1_750,
        first_token_ms: Some(85),
        decode_time_ms: Some(12),
        finish_reason: FinishReason::Stop,
        stop: None,
        deadline_met: None,
    };
    let mut out = Vec::new();
    frame::write(&mut out, None, "queued", queued);
    frame::write(&mut out, Some(1), "started", &started);
    frame::write(&mut out, Some(2), "token", &token("Hello", 0));
    frame::write(&mut out, Some(3), "token", &token("!", 1));
    frame::write(&mut out, Some(4), "end", &end);
    String::from_utf8(out).expect("frames are JSON and ASCII").into()
}

pub(super) fn models() -> ModelList {
    let model = Model {
        id: MODEL.into(),
        aliases: vec!["small".into()],
        state: ModelState::Active,
        resident: true,
        context_tokens: 4_096,
        workloads: vec!["completion".into()],
        engines: vec!["llamacpp".into()],
        digest: Some(DIGEST.into()),
    };
    ModelList { models: vec![model] }
}

pub(super) fn pools() -> PoolList {
    let replica = Replica {
        replica_id: "gpu0-0".into(),
        model_id: MODEL.into(),
        state: "ready".into(),
        engine_version: Some(VERSION.into()),
        model_digest: Some(DIGEST.into()),
        context_tokens: 4_096,
        slots: 4,
        slots_busy: 1,
        restarts: 0,
        memory_bytes: 8_589_934_592,
        load_progress: None,
        last_error: None,
    };
    let pool = Pool {
        pool_id: "gpu0".into(),
        engine: "llamacpp".into(),
        origin: "managed".into(),
        model_id: MODEL.into(),
        devices: vec!["nvidia0".into()],
        residency: "on_demand".into(),
        draining: false,
        reachable: true,
        replicas: vec![replica],
    };
    PoolList { pools: vec![pool] }
}

pub(super) fn reload() -> ReloadRequest {
    ReloadRequest { model_ref: Some(MODEL.into()), deadline_ms: 600_000 }
}

pub(super) fn reloading() -> ReloadStatus {
    ReloadStatus { pool_id: "gpu0".into(), job_id: "6f1b2a0c-9d4e-4c1b-8a57-3e2d1c0b9a88".into() }
}

pub(super) fn drain(draining: bool) -> DrainStatus {
    DrainStatus { pool_id: "gpu0".into(), draining }
}

pub(super) fn devices() -> DeviceList {
    let device = Device {
        device_id: "nvidia0".into(),
        manager: "http://127.0.0.1:8421".into(),
        kind: "nvidia".into(),
        name: Some("NVIDIA GeForce RTX 4090".into()),
        uuid: Some("GPU-8f6d3c1e-52b7-4f0a-9c3d-1e2f3a4b5c6d".into()),
        memory_total_bytes: 25_769_803_776,
        memory_usable_bytes: 25_501_368_320,
        memory_models_bytes: 8_589_934_592,
        health: "healthy".into(),
        last_error: None,
        reachable: true,
    };
    DeviceList { devices: vec![device] }
}

pub(super) fn replica_sets() -> ReplicaSetList {
    let set = ReplicaSet {
        model_id: MODEL.into(),
        engine: "llamacpp".into(),
        engine_version: Some(VERSION.into()),
        model_digest: Some(DIGEST.into()),
        context_tokens: 4_096,
        replica_ids: vec!["gpu0-0".into(), "gpu1-0".into()],
        replicas_ready: 2,
        slots: 8,
        slots_busy: 3,
        slo: vec![Slo {
            priority: Priority::Interactive,
            first_token: Latency { tasks: 311, p95_ms: Some(412), goal_ms: Some(900) },
            tokens_64: Latency { tasks: 204, p95_ms: Some(1_730), goal_ms: Some(2_500) },
        }],
    };
    ReplicaSetList { replica_sets: vec![set] }
}

pub(super) fn explanation() -> Explanation {
    let candidate =
        |id: &str, predicted_ms| DecisionCandidate { replica_id: id.into(), predicted_ms };
    let decision = Decision {
        after_ms: 1_750,
        replica_id: "gpu0-0".into(),
        choice: PlacementChoice::LeastLoaded,
        candidates: vec![candidate("gpu0-0", 2_100), candidate("gpu1-0", 2_100)],
        dropped: vec![DropCount { reason: PlacementDrop::Draining, replicas: 1 }],
    };
    let waiting = Waiting {
        queue_position: 0,
        predicted_start_ms: 400,
        reason: QueuedReason::Resuming,
        obstacles: vec![DropCount { reason: PlacementDrop::NoSlot, replicas: 2 }],
    };
    Explanation {
        task_id: TASK,
        state: TaskState::Preempted,
        waiting: Some(waiting),
        decisions: vec![decision],
    }
}

pub(super) fn health() -> PoolHealth {
    PoolHealth {
        live: true,
        ready: true,
        draining: false,
        last_error: None,
        metrics: PoolHealthMetrics {
            slots: 4,
            slots_busy: 1,
            replicas: 1,
            replicas_ready: 1,
            restarts: 0,
        },
    }
}

pub(super) fn capabilities() -> Capabilities {
    let model = ModelCapability {
        model_id: MODEL.into(),
        ctx_max: 4_096,
        slots: 4,
        workloads: vec!["completion".into()],
        features: ["token_ids", "stop_sequences", "seed", "messages"].map(str::to_owned).into(),
    };
    let engine = EngineCapability {
        engine: "llamacpp".into(),
        versions: vec![VERSION.into()],
        models: vec![model],
    };
    Capabilities {
        api_version: API_VERSION.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        engines: vec![engine],
        sampler_profiles: vec!["v1".into()],
        features: vec!["stream_in_submit".into()],
    }
}

pub(super) fn queue() -> Queue {
    let lane = QueueLane {
        model_id: MODEL.into(),
        priority: Priority::Batch,
        tenant: "default".into(),
        depth: 3,
        running: 4,
        oldest_wait_ms: Some(2_100),
    };
    Queue {
        depth: 3,
        capacity: 100,
        oldest_wait_ms: Some(2_100),
        lanes: vec![lane],
        swaps: Vec::new(),
    }
}

pub(super) fn readiness(ready: bool) -> Readiness {
    let waits = "gpu0-0 is loading".to_owned();
    Readiness { ready, waiting_for: if ready { Vec::new() } else { vec![waits] } }
}
