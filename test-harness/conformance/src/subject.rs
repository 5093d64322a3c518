//! An engine under test, and how to start one.

use std::sync::Arc;

use adapter_api::{Adapter, EngineHttp};
use engine_sim::SimProcess;
use http::Method;
use pool_api::Engine;
use serde_json::Value;

/// What a simulated engine is started with.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    pub slots: u32,
    /// Of a slot, in tokens.
    pub context_tokens: u32,
    pub key: Option<&'a str>,
    /// Of the simulator.
    pub flags: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { slots: 2, context_tokens: 1_024, key: None, flags: &[] }
    }
}

/// One engine, and the adapter that speaks to it.
pub struct Subject {
    pub engine: Engine,
    pub adapter: Arc<dyn Adapter>,
    pub url: String,
    /// `None` for a real server.
    pub sim: Option<SimProcess>,
    /// Sequences at once.
    pub slots: u32,
    /// Of a slot.
    pub context_tokens: u32,
    /// Of the simulator.
    pub(crate) flags: Vec<String>,
}

impl Subject {
    /// A server that runs already.
    #[must_use]
    pub fn real(
        engine: &Engine,
        url: &str,
        key: Option<&str>,
        slots: u32,
        context_tokens: u32,
    ) -> Self {
        let adapter = engines::connect(engine, url, key);
        let (engine, url) = (engine.clone(), url.to_owned());
        Self { engine, adapter, url, sim: None, slots, context_tokens, flags: Vec::new() }
    }

    /// A process of its own in the engine's dialect.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn simulated(engine: &Engine, setup: Setup<'_>) -> Self {
        let Setup { slots, context_tokens, key, flags } = setup;
        let mut arguments: Vec<String> = match engine {
            Engine::Llamacpp => vec![
                format!("-np={slots}"),
                format!("-c={}", context_tokens * slots),
                "--alias=m".into(),
            ],
            Engine::Vllm => vec![
                "--dialect=vllm".into(),
                format!("--max-num-seqs={slots}"),
                format!("--max-model-len={context_tokens}"),
                "--served-model-name=m".into(),
            ],
            Engine::Tgi => vec![
                "--dialect=tgi".into(),
                format!("--max-concurrent-requests={slots}"),
                format!("--max-total-tokens={context_tokens}"),
                format!("--max-input-tokens={}", context_tokens - 1),
            ],
            Engine::Triton(model) => vec![
                "--dialect=triton".into(),
                format!("--max-num-seqs={slots}"),
                format!("--load-model={}", model.model),
            ],
        };
        arguments.extend(key.map(|it| format!("--api-key={it}")));
        let split = |it: String| {
            let (name, value) = it.split_once('=').expect("each has a value");
            [name.to_owned(), value.to_owned()]
        };
        let arguments = arguments.into_iter().flat_map(split);
        let flags: Vec<String> = flags.iter().map(|it| (*it).to_owned()).collect();
        let sim = SimProcess::spawn(arguments.chain(flags.clone()));
        let url = sim.base_url();
        let adapter = engines::connect(engine, &url, key);
        Self { engine: engine.clone(), adapter, url, sim: Some(sim), slots, context_tokens, flags }
    }

    /// Gives the simulator an order, such as `{"refuse": 2}`.
    ///
    /// # Panics
    /// If it does not take it.
    pub async fn order(&self, order: &Value) {
        let http = EngineHttp::new(&self.url, None);
        let body = Some(order.to_string().into_bytes());
        let (status, answer) = http.call(Method::POST, "/sim/fault", body).await.unwrap();
        assert_eq!(status, 200, "{answer:?}");
    }

    /// Requests that the simulator has had, this question apart.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn requests(&self) -> u64 {
        self.stats().await["requests"].as_u64().unwrap() - 1
    }

    /// The simulator's counters.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn stats(&self) -> Value {
        let http = EngineHttp::new(&self.url, None);
        let (_, body) = http.call(Method::GET, "/sim/stats", None).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}
