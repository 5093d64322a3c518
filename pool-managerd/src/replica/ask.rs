//! Questions to an engine, as events for the supervisor.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use adapter_api::{
    Adapter, EngineError, Generate, GenerationEvent, Health, Load, Prompt, Properties, Sampling,
};
use config_schema::Workload;
use tokio::time::timeout;

use crate::supervisor::{Answer, Event};

/// An engine that takes longer over `/health` does not serve either.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);
/// The first decode after a start may compile kernels; 35 s were seen.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// Enough that the engine still generates when the connection closes.
const CANCELLED_TOKENS: u32 = 256;
const IDLE_POLL: Duration = Duration::from_millis(20);

pub(crate) async fn health(engine: Arc<dyn Adapter>) -> Event {
    let answer = match timeout(HEALTH_LIMIT, engine.health()).await {
        Ok(Ok(Health::Ready)) => Answer::Ready,
        Ok(Ok(Health::Loading)) => Answer::Loading,
        Ok(Err(error)) => Answer::Silent { cause: error.to_string() },
        Err(_) => Answer::Silent {
            cause: format!("no health answer within {} s", HEALTH_LIMIT.as_secs()),
        },
    };
    Event::Answered(answer)
}

/// The engine's own word that it is ready is not enough: a token must come out of it, a generation
/// that is cancelled must free its slot, and it must say so; or a vector or a score comes out of it.
pub(crate) async fn probe(engine: Arc<dyn Adapter>, workload: Workload) -> Event {
    let probed = timeout(PROBE_LIMIT, self_test(engine.as_ref(), workload)).await;
    Event::Probed(match probed {
        Ok(Ok(properties)) => Ok(properties),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the self-test did not end within {} s", PROBE_LIMIT.as_secs())),
    })
}

/// An engine that serves already says what it is.
pub(crate) async fn recognise(engine: Arc<dyn Adapter>) -> Event {
    Event::Probed(match timeout(PROBE_LIMIT, engine.properties()).await {
        Ok(Ok(properties)) => Ok(properties),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it did not say what it is within {} s", PROBE_LIMIT.as_secs())),
    })
}

async fn self_test(engine: &dyn Adapter, workload: Workload) -> Result<Properties, EngineError> {
    let properties = engine.properties().await?;
    let word = || vec!["1".to_owned()];
    match workload {
        Workload::Completion => {}
        Workload::Embedding => {
            engine.embed(&word()).await?;
            return Ok(properties);
        }
        Workload::Rerank => {
            engine.rerank("1", &word()).await?;
            return Ok(properties);
        }
    }
    decode(engine, 1).await?;
    // Dropped at its first token, which closes the connection: the engine must notice.
    let half = properties.context_tokens.map_or(CANCELLED_TOKENS, |it| it / 2);
    decode(engine, half.clamp(2, CANCELLED_TOKENS)).await?;
    idle(engine).await?;
    Ok(properties)
}

/// Resolves when nothing runs on the engine, as far as it can tell.
pub(crate) async fn await_idle(engine: Arc<dyn Adapter>) -> Event {
    // An engine that does not answer is asked until nobody wants to know any more.
    while idle(engine.as_ref()).await.is_err() {
        tokio::time::sleep(IDLE_POLL).await;
    }
    Event::Idle
}

async fn idle(engine: &dyn Adapter) -> Result<(), EngineError> {
    loop {
        match engine.load().await {
            Ok(Load { running: 0, .. }) => return Ok(()),
            Ok(_) => tokio::time::sleep(IDLE_POLL).await,
            // It never says: whoever asks for work to end knows of his own.
            Err(EngineError::Unsupported { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Returns at the first token.
async fn decode(engine: &dyn Adapter, max_tokens: u32) -> Result<(), EngineError> {
    let mut generation = engine
        .submit(Generate {
            prompt: Prompt::Text("1".into()),
            max_tokens,
            seed: 0,
            sampling: Sampling::GREEDY,
            stop: Vec::new(),
            constraint: None,
            answer_ids: false,
            reuse_prefix: false,
            correlation_id: "readiness".into(),
        })
        .await?;
    let mut events = Vec::new();
    loop {
        poll_fn(|cx| generation.poll_events(cx, &mut events)).await?;
        for event in events.drain(..) {
            match event {
                GenerationEvent::Tokens(_) => return Ok(()),
                GenerationEvent::Finished { usage, .. } if 0 < usage.output_tokens => {
                    return Ok(());
                }
                GenerationEvent::Finished { .. } => {
                    return Err(EngineError::Protocol { message: "no token was decoded".into() });
                }
                GenerationEvent::PromptProgress { .. } => {}
            }
        }
    }
}
