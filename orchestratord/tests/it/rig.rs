//! One orchestratord in this process, with engines behind it.

use std::time::{Duration, Instant};

use conformance::Subject;
use engine_sim::SimProcess;
use pool_api::{Engine, Pool};
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::manager::{Manager, pool};

pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) sims: Vec<SimProcess>,
    pub(crate) manager: Manager,
    pub(crate) pools: Vec<Pool>,
    server: Option<orchestratord::Server>,
    runtime: Option<Runtime>,
}

/// What a test wants to be different.
pub(crate) struct Setup {
    /// Further configuration, as YAML.
    pub(crate) config: &'static str,
    /// The section of that name.
    pub(crate) journal: String,
    /// Replicas, each with its own engine and this many slots.
    pub(crate) slots: Vec<u32>,
    /// What each of them is; those that are not named are llama.cpp.
    pub(crate) engines: Vec<Engine>,
    pub(crate) sim_flags: Vec<&'static str>,
    /// Changes what the manager tells at first.
    pub(crate) pools: fn(&mut Vec<Pool>),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: "",
            journal: "{durability: memory}".into(),
            slots: vec![2],
            engines: Vec::new(),
            sim_flags: Vec::new(),
            pools: |_| {},
        }
    }
}

impl Rig {
    /// Returns once the first pool is known.
    pub(crate) fn start(setup: Setup) -> Self {
        let others = std::iter::repeat(&Engine::Llamacpp);
        let subjects = setup.slots.iter().zip(setup.engines.iter().chain(others));
        let (sims, mut pools): (Vec<SimProcess>, Vec<Pool>) = subjects
            .enumerate()
            .map(|(index, (slots, engine))| {
                let flags = &setup.sim_flags;
                let setup = conformance::Setup { slots: *slots, flags, ..Default::default() };
                let sim = Subject::simulated(engine, setup).sim.unwrap();
                let mut pool = pool(&format!("p{index}"), "tiny", &sim.base_url(), *slots);
                pool.engine = engine.clone();
                (sim, pool)
            })
            .unzip();
        (setup.pools)(&mut pools);
        let manager = Manager::start(pools.clone());
        let text = format!(
            "bind: ['127.0.0.1:0']\npool_managers: [{{url: '{}'}}]\njournal: {}\n{}",
            manager.url, setup.journal, setup.config
        );
        let config = config_schema::parse(&text).unwrap();
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(orchestratord::start(&config)).unwrap();
        let client = Client::new(server.addresses[0]);
        let rig =
            Self { client, sims, manager, pools, server: Some(server), runtime: Some(runtime) };
        if !setup.config.contains("keys:") {
            wait_until("the fleet is known", || {
                !rig.client.json("/v1/pools")["pools"][0].is_null()
            });
        }
        rig
    }

    pub(crate) fn with_slots(slots: u32) -> Self {
        Self::start(Setup { slots: vec![slots], ..Setup::default() })
    }

    /// Tells of the first pool anew, changed.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Pool)) {
        let mut pool = self.pools[0].clone();
        change(&mut pool);
        self.manager.tell(pool);
    }

    /// Busy slots of the first replica, as the API tells.
    pub(crate) fn busy(&self) -> u64 {
        self.client.json("/v1/pools")["pools"][0]["replicas"][0]["slots_busy"].as_u64().unwrap()
    }

    /// Slots that the first engine itself says are processing.
    pub(crate) fn engine_busy(&self) -> usize {
        let url = format!("{}/slots", self.sims[0].base_url());
        let slots: serde_json::Value =
            ureq::get(&url).call().unwrap().body_mut().read_json().unwrap();
        slots.as_array().unwrap().iter().filter(|it| it["is_processing"] == true).count()
    }

    /// Tells the first engine to misbehave.
    pub(crate) fn fault(&self, order: &str) {
        let url = format!("{}/sim/fault", self.sims[0].base_url());
        ureq::post(&url).send(order).unwrap();
    }

    /// Shuts down while `during` runs.
    pub(crate) fn shut_down(&mut self) {
        let server = self.server.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(server.shut_down(std::future::pending()));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Polls, for at most 10 s.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        pause(Duration::from_millis(10));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real process is polled; there is nothing to await"
)]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}
