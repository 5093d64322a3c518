//! Engines that outlive the manager: taken over at its start, noted before theirs.

use std::path::Path;
use std::sync::Arc;

use config_schema::OnManagerExit;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{ReplicaTask, Site, load};
use crate::engine::{KeyedPort, Log, Process};
use crate::guard;
use crate::kept::Record;
use crate::measured;
use crate::replica::reach::Reach;

/// Ends engines that were kept and that nobody will take over.
pub(crate) async fn end_strays(site: &Site) {
    let wanted: Vec<String> = match site.config.on_manager_exit {
        OnManagerExit::Keep => {
            let pools = site.host.snapshot().pools;
            pools.into_iter().flat_map(|it| it.replicas).map(|it| it.replica_id).collect()
        }
        OnManagerExit::Stop => Vec::new(),
    };
    for socket in site.kept.strays(&wanted) {
        end(&socket).await;
    }
}

async fn end(socket: &Path) {
    match UnixStream::connect(socket).await {
        Ok(mut link) => {
            tracing::warn!(socket = %socket.display(), "an engine that nobody wants is ended");
            let _gone = link.write_all(&[guard::KILL]).await;
        }
        // What is left of a guard that was killed.
        Err(_) => drop(std::fs::remove_file(socket)),
    }
}

impl ReplicaTask {
    /// Takes over the engine that an earlier manager kept for this replica, if it lives and was
    /// started as this manager would; ends it, if not. Before the first callers come, so that none
    /// is told of a replica that has lost its engine.
    pub(crate) async fn adopt(&mut self) {
        if self.site.config.on_manager_exit != OnManagerExit::Keep {
            return;
        }
        let replica = self.replica_id();
        let Some(record) = self.site.kept.get(&replica) else { return };
        let socket = self.site.kept.socket(&replica);
        let process = Process::adopt(self.log_path(), &socket).await;
        let fit = record.options == self.options();
        let Some(process) = process.filter(|_| fit) else {
            self.supervisor.adopt(record.incarnation, false);
            if socket.exists() {
                end(&socket).await;
            }
            self.forget_kept();
            return;
        };
        process.trim_log();
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
        self.process = Some(process);
        self.publish_digest();
        self.publish();
    }

    /// Where the engine is to write; one that is to be kept is noted first.
    pub(super) async fn log(&mut self, at: &KeyedPort) -> Result<Log, String> {
        let file = self.log_path();
        if self.site.config.on_manager_exit == OnManagerExit::Stop {
            return Ok(Log::Through(file));
        }
        let replica = self.replica_id();
        let record = Record {
            port: at.port,
            key: at.key.clone(),
            incarnation: self.supervisor.incarnation() + 1,
            options: self.options(),
        };
        let socket = self.site.kept.socket(&replica);
        let site = Arc::clone(&self.site);
        let noted = tokio::task::spawn_blocking(move || site.kept.put(&replica, Some(record)));
        match noted.await {
            Ok(Ok(())) => Ok(Log::Kept { file, socket }),
            Ok(Err(error)) => Err(format!("the engine cannot be noted as one to keep: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The engine is gone.
    pub(super) fn forget_kept(&self) {
        if self.site.config.on_manager_exit == OnManagerExit::Stop {
            return;
        }
        if let Err(error) = self.site.kept.put(&self.replica_id(), None) {
            tracing::warn!(%error, "an engine that is gone cannot be forgotten");
        }
    }

    pub(super) fn trim_log(&self) {
        if let Some(process) = &self.process {
            process.trim_log();
        }
    }

    fn options(&self) -> String {
        measured::key(&self.pool, self.pool.model_path().unwrap_or(Path::new("")))
    }
}
