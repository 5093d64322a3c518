//! The two daemons, started in order and stopped in the other order.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use api_types::Readiness;
use ureq::Agent;

use super::{Plan, config};
use crate::process::{pause, spawn_leashed, stop};

/// Longer than the daemons' own drain and grace together.
const STOP_LIMIT: Duration = Duration::from_secs(25);

/// An engine that still fails this long after its first failure will not start by itself.
const FAILING_LIMIT: Duration = Duration::from_secs(10);

struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Stops what runs when it is dropped, too.
pub(crate) struct Stack {
    /// In the order of starting.
    daemons: Vec<Daemon>,
    url: String,
}

impl Stack {
    pub(crate) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let config = config::write(plan)?;
        let mut stack = Self { daemons: Vec::new(), url: plan.url() };
        for name in ["pool-managerd", "orchestratord"] {
            let log = plan.folder.join(format!("{name}.log"));
            let arguments = ["--config".into(), config.clone().into()];
            let child = spawn_leashed(&plan.programs.join(name), &arguments, &log)?;
            println!("started {name} (log: {})", log.display());
            stack.daemons.push(Daemon { name, child, log });
        }
        Ok(stack)
    }

    /// Says what is waited for until orchestratord is ready; false if `stop` was asked for meanwhile.
    pub(crate) fn wait_ready(&mut self, stop: &AtomicBool) -> anyhow::Result<bool> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(2)))
            .build()
            .into();
        let mut said = String::new();
        let mut failing_since: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            self.check_alive()?;
            let waiting_for = match readiness(&agent, &self.url) {
                Some(it) if it.ready => {
                    println!("ready");
                    return Ok(true);
                }
                Some(it) => it.waiting_for.join("; "),
                None => "orchestratord".into(),
            };
            if waiting_for != said {
                println!("waiting for: {waiting_for}");
                said = waiting_for;
            }
            // pool-managerd's word for an engine that ended and waits for its next start.
            if said.contains(" is backoff") {
                let since = failing_since.get_or_insert_with(Instant::now);
                ensure!(
                    since.elapsed() < FAILING_LIMIT,
                    "the engine does not start, see its last words above: is the model file whole, \
                     and does the engine know its format?"
                );
            }
            pause(Duration::from_millis(100));
        }
        Ok(false)
    }

    /// Fails with the last words of a daemon that is gone.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        for daemon in &mut self.daemons {
            if let Some(status) = daemon.child.try_wait()? {
                bail!(
                    "{} ended ({status}); the end of `{}`:\n  {}",
                    daemon.name,
                    daemon.log.display(),
                    last_lines(&daemon.log)
                );
            }
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        while let Some(mut daemon) = self.daemons.pop() {
            let status = stop(&mut daemon.child, STOP_LIMIT)?;
            println!("stopped {} ({status})", daemon.name);
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn readiness(agent: &Agent, url: &str) -> Option<Readiness> {
    agent.get(format!("{url}/readyz")).call().ok()?.body_mut().read_json().ok()
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n  ")
}
