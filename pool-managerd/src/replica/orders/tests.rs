//! In what order an order's end and what it has brought about are told.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Ordered, Wished};
use crate::app;
use crate::engine::Environment;
use crate::replica::ReplicaTask;

// OC-POOL-3048
#[tokio::test]
async fn who_hears_of_an_end_sees_what_it_has_brought_about() {
    let text = "pool_manager: {data_dir: /nowhere, pools: [{id: p, engine: llamacpp, model: {id: \
                m, path: /nowhere}}]}";
    let config = config_schema::parse(text).unwrap();
    let (site, mut inboxes) = app::site(config.pool_manager, Environment::new());
    let site = Arc::new(site);
    let (place, inbox) = inboxes.remove(0);
    let mut task = ReplicaTask::new(Arc::clone(&site), place, inbox);
    let (done, mut ended) = oneshot::channel();
    task.job = Some(Ordered { wish: Wished::Load, done });
    task.supervisor.note("it was cheese".into());
    task.end_job(Ok(()));
    assert_eq!(ended.try_recv(), Ok(Ok(())));
    let told = site.host.replicas(0).remove(0).last_error;
    assert_eq!(told.as_deref(), Some("it was cheese"));
}
