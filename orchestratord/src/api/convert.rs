//! Between the core's and the fleet's words and those of the wire.

use api_types::Admission;
use orchestrator_core::Standing;

use super::App;
use super::error::ApiError;
use crate::driver::{self, Rejection};
use crate::task::TaskRecord;

pub(super) fn rejection(told: Rejection) -> ApiError {
    ApiError {
        retry_after_ms: told.retry_after.map(|it| (it.0 / 1_000).max(1)),
        policy_label: told.policy,
        earliest_ms: told.earliest.map(|it| it.0.div_ceil(1_000)),
        ..ApiError::new(told.code, told.message)
    }
}

/// The admission of a task that was submitted before, as it stands now.
pub(super) fn admission_now(
    record: &TaskRecord,
    standing: Option<Standing>,
    app: &App,
) -> Admission {
    let ms = |it: Option<orchestrator_core::Micros>| {
        it.map_or(app.settings.unready_wait_ms, |it| it.0 / 1_000)
    };
    let (position, start, p90) = match standing {
        Some(it) => (it.position, ms(it.predicted_start), ms(it.predicted_start_p90)),
        None => (0, 0, 0),
    };
    Admission {
        queue_position: position,
        predicted_start_ms: start,
        predicted_start_p90_ms: p90,
        ..driver::admission(record)
    }
}
