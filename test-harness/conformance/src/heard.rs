//! Runs one generation and takes everything down that it says.

use std::future::poll_fn;
use std::time::Duration;

use adapter_api::{
    Adapter, EngineError, FinishReason, Generate, Generation, GenerationEvent, Prompt, Sampling,
    Timings, Usage,
};

/// Longer than anything here takes, a first token of a cold engine apart; a test that reaches it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What came of a generation, in the order in which it came.
#[derive(Debug, Default)]
pub struct Heard {
    pub text: String,
    pub count: u32,
    pub ids: Vec<u32>,
    pub progress: Vec<(u32, u32)>,
    pub finished: Option<(FinishReason, Usage, Timings)>,
    pub error: Option<EngineError>,
}

/// `prompt` as a greedy request with every setting neutral.
#[must_use]
pub fn request(prompt: &str, max_tokens: u32) -> Generate {
    Generate {
        prompt: Prompt::Text(prompt.to_owned()),
        max_tokens,
        seed: 7,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        constraint: None,
        answer_ids: false,
        reuse_prefix: false,
        correlation_id: "t-1".to_owned(),
    }
}

/// Within [`LIMIT`].
///
/// # Errors
/// The adapter's.
///
/// # Panics
/// After the limit.
pub async fn submit(
    adapter: &dyn Adapter,
    request: Generate,
) -> Result<Box<dyn Generation>, EngineError> {
    tokio::time::timeout(LIMIT, adapter.submit(request)).await.unwrap()
}

/// Five tokens of `prompt`, to the end.
///
/// # Panics
/// If the engine does not take it.
pub async fn run(adapter: &dyn Adapter, prompt: &str) -> Heard {
    hear(submit(adapter, request(prompt, 5)).await.unwrap()).await
}

/// To its end or failure.
pub async fn hear(mut generation: Box<dyn Generation>) -> Heard {
    let mut heard = Heard::default();
    while heard.finished.is_none() && heard.error.is_none() {
        heard.step(generation.as_mut()).await;
    }
    heard
}

impl Heard {
    /// Takes in what one poll gives. A failed poll must give nothing besides.
    ///
    /// # Panics
    /// If it does, or gives nothing at all.
    pub async fn step(&mut self, generation: &mut dyn Generation) {
        let mut events = Vec::new();
        let polled = poll_fn(|cx| generation.poll_events(cx, &mut events));
        match tokio::time::timeout(LIMIT, polled).await.unwrap() {
            Ok(()) => assert!(!events.is_empty(), "ready with nothing to say"),
            Err(error) => {
                assert_eq!(events, [], "a caller that sees an error drops what came with it");
                self.error = Some(error);
            }
        }
        for event in events {
            self.take(event);
        }
    }

    fn take(&mut self, event: GenerationEvent) {
        assert!(self.finished.is_none(), "nothing follows the end");
        match event {
            GenerationEvent::PromptProgress { processed, total } => {
                self.progress.push((processed, total));
            }
            GenerationEvent::Tokens(piece) => {
                self.text.push_str(&piece.text);
                self.count += piece.count;
                self.ids.extend(piece.ids);
            }
            GenerationEvent::Finished { reason, usage, timings } => {
                self.finished = Some((reason, usage, timings));
            }
        }
    }

    /// Why it ended.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn reason(&self) -> &FinishReason {
        &self.end().0
    }

    /// What it used.
    ///
    /// # Panics
    /// If it did not end.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.end().1
    }

    fn end(&self) -> &(FinishReason, Usage, Timings) {
        let error = &self.error;
        self.finished.as_ref().unwrap_or_else(|| panic!("it ended with {error:?}"))
    }
}
