//! orchestratord as a process that is killed and started again, on one journal.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::Subject;
use engine_sim::SimProcess;
use pool_api::{Engine, Pool};
use tempfile::TempDir;

use crate::client::Client;
use crate::manager::{Manager, pool};
use crate::rig::{pause, wait_until};

/// What stays: engines, their manager, the configuration and the journal.
pub(crate) struct World {
    sims: Vec<SimProcess>,
    folder: TempDir,
    _manager: Manager,
}

/// One life of the daemon; dropping it is `kill -9`.
pub(crate) struct Life {
    process: Child,
    pub(crate) client: Client,
}

impl World {
    /// One replica for each count of slots.
    pub(crate) fn new(slots: &[u32], sim_flags: &[&'static str], config: &str) -> Self {
        Self::with_pools(slots, sim_flags, config, |_| {})
    }

    /// One slot, for as many tokens as a test wants.
    pub(crate) fn with_long_context(sim_flags: &[&'static str], config: &str) -> Self {
        let flags = [sim_flags, &["--ctx-size", "524288"]].concat();
        Self::with_pools(&[1], &flags, config, |pool| pool.replicas[0].context_tokens = 524_288)
    }

    fn with_pools(
        slots: &[u32],
        sim_flags: &[&'static str],
        config: &str,
        change: impl Fn(&mut Pool),
    ) -> Self {
        let subjects = slots.iter().enumerate().map(|(index, slots)| {
            let setup =
                conformance::Setup { slots: *slots, flags: sim_flags, ..Default::default() };
            let sim = Subject::simulated(&Engine::Llamacpp, setup).sim.unwrap();
            let mut pool = pool(&format!("p{index}"), "tiny", &sim.base_url(), *slots);
            change(&mut pool);
            (sim, pool)
        });
        let (sims, pools): (Vec<_>, Vec<_>) = subjects.unzip();
        let manager = Manager::start(pools);
        let folder = TempDir::new().unwrap();
        let world = Self { sims, folder, _manager: manager };
        let text = format!(
            "bind: ['127.0.0.1:0']\npool_managers: [{{url: '{}'}}]\n\
             journal: {{data_dir: '{}'}}\n{config}",
            world._manager.url,
            world.journal().display()
        );
        std::fs::write(world.config(), text).unwrap();
        world
    }

    /// With another `journal.durability`.
    pub(crate) fn durable(self, durability: &str) -> Self {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let durable = format!("journal: {{durability: {durability}, ");
        std::fs::write(self.config(), text.replacen("journal: {", &durable, 1)).unwrap();
        self
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// Occupies a slot of the first engine, past the daemon, until it is dropped.
    pub(crate) fn occupy(&self) -> Box<dyn BufRead> {
        let url = format!("{}/completion", self.sims[0].base_url());
        let body = r#"{"prompt":"[[sim:hang_after=1]]","stream":true}"#;
        let answer = ureq::post(&url).send(body).unwrap();
        let mut reader = BufReader::new(answer.into_body().into_reader());
        reader.read_line(&mut String::new()).unwrap();
        Box::new(reader)
    }

    /// Of all prompts that the first engine has worked on.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        let url = format!("{}/metrics", self.sims[0].base_url());
        let scrape = ureq::get(&url).call().unwrap().into_body().read_to_string().unwrap();
        let mut lines = scrape.lines();
        let value = lines.find_map(|it| it.strip_prefix("llamacpp:prompt_tokens_total "));
        value.unwrap().parse().unwrap()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// How the daemon is started; stderr is piped.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestratord"));
        command.arg("--config").arg(self.config()).stderr(Stdio::piped());
        command
    }

    /// A write beyond [`Life::limit_files`] fails, as on a full disk, and does not end the daemon.
    pub(crate) fn command_that_survives_limits(&self) -> Command {
        let daemon = self.command();
        let mut command = Command::new("sh");
        // What is ignored stays so over exec.
        command.arg("-c").arg("trap '' XFSZ; exec \"$0\" \"$@\"").arg(daemon.get_program());
        command.args(daemon.get_args());
        command
    }

    /// Starts the daemon; returns once it knows its pools.
    pub(crate) fn start(&self) -> Life {
        self.start_as(self.command())
    }

    pub(crate) fn start_as(&self, mut command: Command) -> Life {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let serving = loop {
            let Some(line) = lines.next() else { panic!("it did not start: {said:#?}") };
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            if line["message"] == "serving" {
                break line;
            }
            said.push(line);
        };
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let listen = serving["listen"].as_str().unwrap();
        let client = Client::new(listen.trim_matches(['[', ']']).parse().unwrap());
        wait_until("the fleet is known", || !client.json("/v1/pools")["pools"][0].is_null());
        Life { process, client }
    }
}

impl Life {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Within 10 s, by itself.
    pub(crate) fn died(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if self.process.try_wait().unwrap().is_some() {
                return true;
            }
            pause(Duration::from_millis(5));
        }
        false
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal();
        self.process.wait().unwrap().code()
    }

    /// The size that no file of the daemon may exceed, in bytes; `None`: any.
    pub(crate) fn limit_files(&self, maximum: Option<u64>) {
        let pid = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        let limit = rustix::process::Rlimit { current: maximum, maximum: None };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    }

    pub(crate) fn signal(&self) {
        let sent = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}
