//! `GET /v1/queue`.

use api_types::{Priority, Queue, QueueLane};
use axum::Json;
use axum::extract::{Extension, State};
use orchestrator_core::{Class, LaneView};

use super::App;
use crate::tenants::{Tenant, Tenants};

/// How much waits, and the caller's own lanes.
#[utoipa::path(
    get, path = "/v1/queue", operation_id = "get_queue", tag = "control",
    responses((status = 200, description = "By model, class and tenant, and what is loaded for them.", body = Queue)),
    extensions(("x-req-id" = json!(["ORCH-3004", "ORCH-4010"]))),
)]
pub(super) async fn show(
    State(app): State<App>,
    Extension(tenant): Extension<Tenant>,
) -> Json<Queue> {
    let picture = app.driver.queue().await;
    let depth = picture.lanes.iter().map(|it| it.1.queued).sum();
    let own = picture.lanes.into_iter().filter(|it| it.1.tenant == tenant.id);
    let lanes: Vec<_> = own.map(|it| lane(it, &app.tenants)).collect();
    Json(Queue {
        depth,
        capacity: u64::from(app.settings.queue_capacity),
        oldest_wait_ms: lanes.iter().filter_map(|it| it.oldest_wait_ms).max(),
        lanes,
        swaps: picture.swaps,
    })
}

fn lane((model_id, lane): (String, LaneView), tenants: &Tenants) -> QueueLane {
    QueueLane {
        model_id,
        priority: match lane.class {
            Class::Interactive => Priority::Interactive,
            Class::Batch => Priority::Batch,
        },
        tenant: tenants.name(lane.tenant).into(),
        depth: lane.queued,
        running: lane.running,
        oldest_wait_ms: lane.oldest_wait.map(|it| it.0 / 1_000),
    }
}
