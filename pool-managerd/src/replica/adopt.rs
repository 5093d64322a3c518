//! Engines that outlive the manager: taken over at its start, noted before theirs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config_schema::OnManagerExit;
use tokio::time::timeout;

use super::{ReplicaTask, Site, load};
use crate::engine::{KeyedPort, Process};
use crate::kept::Record;
use crate::measured;
use crate::replica::reach::Reach;

const END_LIMIT: Duration = Duration::from_secs(5);

/// Ends engines that an earlier manager has left and that nobody will take over.
pub(crate) async fn end_strays(site: &Site) {
    let pools = site.host.snapshot().pools;
    let replicas = pools.into_iter().flat_map(|it| it.replicas).map(|it| it.replica_id);
    for door in site.kept.strays(&replicas.collect::<Vec<_>>()) {
        end(&door).await;
    }
}

async fn end(door: &Path) {
    let Some(mut process) = Process::adopt(door).await else {
        // What is left of a guard that was killed.
        drop(std::fs::remove_file(door));
        return;
    };
    tracing::warn!(pid = process.pid(), "an engine that nobody wants is ended");
    process.kill();
    // What does not end by SIGKILL waits for a device, and is not waited for.
    let _stuck = timeout(END_LIMIT, process.exited()).await;
}

impl ReplicaTask {
    /// Goes on where an earlier manager was. Before the first callers come, so that none is told of a
    /// replica that has lost its engine, or of a fresh start.
    pub(crate) async fn adopt(&mut self) {
        if let Some(standing) = self.site.succession.of(&self.replica_id(), &self.options()) {
            self.supervisor.inherit(standing);
        }
        self.take_over().await;
        self.publish();
    }

    /// Leaves the engine, and how it stands, to the next manager.
    pub(super) fn hand_over(&self) {
        self.process.iter().for_each(Process::hand_over);
        if self.pool.model_path().is_some() {
            let standing = self.supervisor.standing(self.now());
            self.site.succession.leave(self.replica_id(), self.options(), standing);
        }
    }

    /// Takes over the engine that was left for this replica, if it lives and was started as this
    /// manager would; ends it, if not.
    async fn take_over(&mut self) {
        let replica = self.replica_id();
        let Some(record) = self.site.kept.get(&replica) else { return };
        let door = self.site.kept.door(&replica, record.port);
        let fit = record.options == self.options() && !self.supervisor.is_down();
        let process = if fit { Process::adopt(&door).await } else { None };
        let Some(process) = process else {
            self.supervisor.adopt(record.incarnation, false);
            if door.exists() {
                end(&door).await;
            }
            self.forget_kept();
            return;
        };
        tracing::info!(
            replica_id = replica,
            pid = process.pid(),
            incarnation = record.incarnation,
            "engine taken over"
        );
        self.supervisor.adopt(record.incarnation, true);
        let at = self.site.ports.adopt(record.port, record.key);
        self.reach(Some(Reach::Managed(at)));
        // What it holds is not asked for, only noted.
        let site = Arc::clone(&self.site);
        let _checked = load::check(site, self.pool.clone(), self.place()).await;
        let needs = self.site.host.needs(self.pool_index, self.index);
        self.hold = Some(self.site.memory.adopt(needs));
        self.take(process);
        self.publish_digest();
    }

    /// The engine is this replica's from now on.
    pub(super) fn take(&mut self, process: Process) {
        if self.site.config.on_manager_exit == OnManagerExit::Keep {
            process.keep();
        }
        self.process = Some(process);
    }

    /// Notes the engine that is about to start, so that none is ever unknown.
    pub(super) async fn note(&mut self, at: &KeyedPort) -> Result<(), String> {
        let record = Record {
            port: at.port,
            key: at.key.clone(),
            incarnation: self.supervisor.incarnation() + 1,
            options: self.options(),
        };
        let (site, replica) = (Arc::clone(&self.site), self.replica_id());
        let noted = tokio::task::spawn_blocking(move || site.kept.put(&replica, Some(record)));
        match noted.await {
            Ok(Ok(())) => Ok(()),
            // Without the note it dies with us, and may do so.
            Ok(Err(error)) if self.site.config.on_manager_exit == OnManagerExit::Stop => {
                tracing::warn!(%error, "an engine cannot be noted for the next manager");
                Ok(())
            }
            Ok(Err(error)) => Err(format!("the engine cannot be noted as one to keep: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The engine is gone.
    pub(super) fn forget_kept(&self) {
        if let Err(error) = self.site.kept.put(&self.replica_id(), None) {
            tracing::warn!(%error, "an engine that is gone cannot be forgotten");
        }
    }

    fn options(&self) -> String {
        measured::key(&self.pool, self.pool.model_path().unwrap_or(Path::new("")))
    }
}
