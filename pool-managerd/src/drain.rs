//! A pool that takes no new work, on request.

use std::sync::Arc;
use std::time::Duration;

use pool_api::{Origin, Replica, ReplicaState};
use tokio::time::timeout;

use crate::jobs::error;
use crate::replica::Site;

const IDLE_POLL: Duration = Duration::from_millis(250);
/// Twice, because what was sent just before orchestratord saw the drain may still be on its way.
const IDLE_POLLS: u32 = 2;

/// Marks the pool, and ends the job when that is noted and nothing runs there any more, or patience
/// has ended; the pool drains on.
pub(crate) fn pool(site: &Arc<Site>, pool: usize, job_id: String, patience_ms: u64) {
    mark(site, pool, true);
    let tracker = site.tracker.clone();
    let site = Arc::clone(site);
    tracker.spawn(async move {
        note(&site).await;
        let patience = Duration::from_millis(patience_ms);
        let result = tokio::select! {
            waited = timeout(patience, idle(&site, |it| it == pool)) => waited.map_err(|_| {
                error("BUSY", "tasks still run there; the pool drains on")
            }),
            () = site.stop.cancelled() => Err(error("SHUTTING_DOWN", "the manager stops")),
        };
        site.jobs.finish(&job_id, result);
    });
}

/// Takes the mark away, and ends the job when that is noted.
pub(crate) fn end(site: &Arc<Site>, pool: usize, job_id: String) {
    mark(site, pool, false);
    let tracker = site.tracker.clone();
    let site = Arc::clone(site);
    tracker.spawn(async move {
        note(&site).await;
        site.jobs.finish(&job_id, Ok(()));
    });
}

fn mark(site: &Site, pool: usize, draining: bool) {
    site.drained.set(&site.config.pools[pool].id, draining);
    site.host.set_draining(pool, draining);
}

async fn note(site: &Arc<Site>) {
    let noting = Arc::clone(site);
    let noted = tokio::task::spawn_blocking(move || noting.drained.write());
    noted.await.expect("writing does not panic");
}

/// Resolves when no engine of ours in the pools that `counts` names runs a sequence any more;
/// orchestratord holds the connections.
pub(crate) async fn idle(site: &Site, counts: impl Fn(usize) -> bool) {
    let mut idle_polls = 0;
    while idle_polls < IDLE_POLLS {
        idle_polls = if running(site, &counts).await == 0 { idle_polls + 1 } else { 0 };
        tokio::time::sleep(IDLE_POLL).await;
    }
}

async fn running(site: &Site, counts: impl Fn(usize) -> bool) -> u32 {
    let mut running = 0;
    let pools = site.host.snapshot().pools;
    let ours = pools.iter().enumerate().filter(|(index, _)| counts(*index));
    for (_, pool) in ours.filter(|(_, it)| it.origin == Origin::Managed) {
        let serves =
            |it: &&Replica| matches!(it.state, ReplicaState::Ready | ReplicaState::Draining);
        for replica in pool.replicas.iter().filter(serves) {
            let Some(url) = &replica.endpoint else { continue };
            let engine = engines::connect(&pool.engine, url, replica.engine_key.as_deref());
            // An engine that does not answer is not waited for.
            running += engine.load().await.map_or(0, |it| it.running);
        }
    }
    running
}
