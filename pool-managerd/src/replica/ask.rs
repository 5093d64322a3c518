//! Questions to an engine, as events for the supervisor.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use adapter_api::{
    Adapter, EngineError, Generate, GenerationEvent, Health, Prompt, Properties, Sampling,
};
use llamacpp::LlamaCpp;
use tokio::time::timeout;

use crate::engine::{self, Needs};
use crate::supervisor::{Answer, Event};

/// An engine that takes longer over `/health` does not serve either.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);
/// The first decode after a start may compile kernels; 35 s were seen.
const PROBE_LIMIT: Duration = Duration::from_secs(120);

/// On a thread of its own: a file on a network that is away takes its time.
pub(crate) async fn check(needs: Needs) -> Event {
    let checked = tokio::task::spawn_blocking(move || engine::check(&needs)).await;
    Event::Checked(match checked {
        Ok(checked) => checked.map_err(|it| it.to_string()),
        Err(error) => Err(format!("the check did not end: {error}")),
    })
}

pub(crate) async fn health(engine: Arc<LlamaCpp>) -> Event {
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

/// The engine's own word that it is ready is not enough: one token must come out of it.
pub(crate) async fn probe(engine: Arc<LlamaCpp>) -> Event {
    let probed = timeout(PROBE_LIMIT, decode_one(&engine)).await;
    Event::Probed(match probed {
        Ok(Ok(properties)) => Ok(properties),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no token within {} s", PROBE_LIMIT.as_secs())),
    })
}

async fn decode_one(engine: &LlamaCpp) -> Result<Properties, EngineError> {
    let properties = engine.properties().await?;
    let mut generation = engine
        .submit(Generate {
            prompt: Prompt::Text("1".into()),
            max_tokens: 1,
            seed: 0,
            sampling: Sampling {
                temperature: 0.0,
                top_p: 1.0,
                top_k: 0,
                min_p: 0.0,
                repeat_penalty: 1.0,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
            },
            stop: Vec::new(),
            reuse_prefix: false,
            correlation_id: "readiness".into(),
        })
        .await?;
    let mut events = Vec::new();
    loop {
        poll_fn(|cx| generation.poll_events(cx, &mut events)).await?;
        for event in events.drain(..) {
            match event {
                GenerationEvent::Finished { usage, .. } if 0 < usage.output_tokens => {
                    return Ok(properties);
                }
                GenerationEvent::Finished { .. } => {
                    return Err(EngineError::Protocol { message: "no token was decoded".into() });
                }
                GenerationEvent::PromptProgress { .. } | GenerationEvent::Tokens(_) => {}
            }
        }
    }
}
