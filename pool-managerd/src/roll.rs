//! A pool that is to serve another model: one replica after the other, so that the others serve
//! meanwhile, and all of them or none.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use pool_api::{JobError, Replica, ReplicaState};
use tokio::time::{Instant, sleep};

use crate::jobs::error;
use crate::replica::{NewModel, Site, Wished};

const READY_POLL: Duration = Duration::from_millis(100);

/// Begins the reload, unless one is under way; the job ends with it. `patience_ms`: how long each
/// replica waits for what runs there.
pub(crate) fn pool(
    site: &Arc<Site>,
    pool: usize,
    job_id: String,
    model: NewModel,
    patience_ms: u64,
) {
    if site.jobs.is_reloaded_before(&job_id, &site.config.pools[pool].id) {
        site.jobs.finish(&job_id, Err(error("BUSY", "a reload is under way")));
        return;
    }
    let site = Arc::clone(site);
    site.tracker.clone().spawn(async move {
        let result = roll(&site, pool, &model, patience_ms).await;
        site.jobs.finish(&job_id, result);
    });
}

async fn roll(
    site: &Arc<Site>,
    pool: usize,
    model: &NewModel,
    patience_ms: u64,
) -> Result<(), JobError> {
    let mut changed = Vec::new();
    for replica in order(&site.host.replicas(pool)) {
        let wish = Wished::Reload { model: model.clone(), patience_ms };
        match site.order((pool, replica), wish).await {
            Ok(()) => changed.push(replica),
            Err(failed) => return Err(go_back(site, pool, replica, &changed, failed).await),
        }
    }
    Ok(())
}

/// Those that serve come last: where one does not, nothing is lost by trying.
fn order(replicas: &[Replica]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..replicas.len()).collect();
    order.sort_by_key(|it| replicas[*it].state == ReplicaState::Ready);
    order
}

/// The model cannot serve on `failed`: those that have it already take the one before again. Why, for
/// who has ordered it.
async fn go_back(
    site: &Arc<Site>,
    pool: usize,
    failed: usize,
    changed: &[usize],
    error: JobError,
) -> JobError {
    let id = |replica: usize| site.host.replicas(pool)[replica].replica_id.clone();
    let cause = format!("{}: {}", id(failed), error.message);
    let mut message = cause.clone();
    for replica in changed.iter().rev() {
        await_another(site, pool, *replica).await;
        let wish = Wished::GoBack { cause: cause.clone() };
        if let Err(error) = site.order((pool, *replica), wish).await {
            let _written = write!(message, "; {} keeps it: {}", id(*replica), error.message);
        }
    }
    JobError { message, ..error }
}

/// Waits until another replica serves, for as long as one may take to start: the one that failed may
/// have lost its place to the new model for a while.
async fn await_another(site: &Site, pool: usize, but: usize) {
    let until = Instant::now() + Duration::from_millis(site.config.pools[pool].start_timeout_ms);
    let serves = |(index, it): (usize, &Replica)| index != but && it.state == ReplicaState::Ready;
    while !site.host.replicas(pool).iter().enumerate().any(serves) {
        if until <= Instant::now() || site.stop.is_cancelled() {
            return;
        }
        sleep(READY_POLL).await;
    }
}
