//! A watcher that cannot keep up, which no test from outside brings about for sure.

use std::sync::Arc;

use pool_api::{Pool, WatchEvent};

use super::{Watching, next_event};
use crate::app;
use crate::engine::Environment;
use crate::replica::Site;

fn site() -> Arc<Site> {
    let text = "pool_manager: {data_dir: /nowhere, pools: [{id: p, engine: llamacpp, model: {id: \
                m, path: /nowhere}}]}";
    let config = config_schema::parse(text).unwrap();
    Arc::new(app::site(config.pool_manager, Environment::new()).0)
}

fn incarnation(pools: &[Pool]) -> u64 {
    pools[0].replicas[0].incarnation
}

async fn step(state: Watching) -> (WatchEvent, Watching) {
    let (Ok(text), state) = next_event(state).await.unwrap();
    (serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap(), state)
}

#[tokio::test]
async fn a_watcher_that_fell_behind_gets_everything_anew_and_nothing_older_after_it() {
    let site = site();
    let (snapshot, changes) = site.host.watch();
    let state = Watching { site: Arc::clone(&site), changes, first: Some(snapshot) };
    let (first, state) = step(state).await;
    assert!(matches!(first, WatchEvent::Snapshot(it) if incarnation(&it.pools) == 0));
    for number in 1..=1_000 {
        site.host.update(0, 0, |it| it.incarnation = number);
    }
    let (anew, state) = step(state).await;
    assert!(matches!(anew, WatchEvent::Snapshot(it) if incarnation(&it.pools) == 1_000));
    site.host.update(0, 0, |it| it.incarnation = 1_001);
    let (after, _) = step(state).await;
    assert!(matches!(after, WatchEvent::Pool(it) if it.replicas[0].incarnation == 1_001));
}

#[tokio::test]
async fn what_does_not_change_is_not_told() {
    let site = site();
    let (_, mut changes) = site.host.watch();
    site.host.update(0, 0, |it| it.incarnation = 0);
    assert!(changes.try_recv().is_err());
}

#[test]
fn no_watcher_is_told_of_a_change_that_its_snapshot_has() {
    let site = site();
    let writing = Arc::clone(&site);
    let writer = std::thread::spawn(move || {
        for number in 1..=20_000 {
            writing.host.update(0, 0, |it| it.incarnation = number);
        }
    });
    while !writer.is_finished() {
        let (snapshot, mut changes) = site.host.watch();
        if let Ok(WatchEvent::Pool(change)) = changes.try_recv() {
            assert!(incarnation(&snapshot.pools) < change.replicas[0].incarnation);
        }
    }
    writer.join().unwrap();
}
