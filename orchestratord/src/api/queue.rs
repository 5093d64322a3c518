//! `GET /v1/queue`.

use api_types::{Priority, Queue, QueueLane};
use axum::Json;
use axum::extract::State;
use orchestrator_core::{Class, LaneView};

use super::App;

/// Who waits, and for how long.
#[utoipa::path(
    get, path = "/v1/queue", operation_id = "get_queue", tag = "control",
    responses((status = 200, description = "By model, class and tenant, and what is loaded for them.", body = Queue)),
    extensions(("x-req-id" = json!(["ORCH-3004", "ORCH-4010"]))),
)]
pub(super) async fn show(State(app): State<App>) -> Json<Queue> {
    let picture = app.driver.queue().await;
    let lanes: Vec<_> = picture.lanes.into_iter().map(lane).collect();
    Json(Queue {
        depth: lanes.iter().map(|it| it.depth).sum(),
        capacity: u64::from(app.settings.queue_capacity),
        oldest_wait_ms: lanes.iter().filter_map(|it| it.oldest_wait_ms).max(),
        lanes,
        swaps: picture.swaps,
    })
}

fn lane((model_id, lane): (String, LaneView)) -> QueueLane {
    QueueLane {
        model_id,
        priority: match lane.class {
            Class::Interactive => Priority::Interactive,
            Class::Batch => Priority::Batch,
        },
        tenant: "default".into(),
        depth: lane.queued,
        running: lane.running,
        oldest_wait_ms: lane.oldest_wait.map(|it| it.0 / 1_000),
    }
}
