//! A running completion: body frames in, events out.

use std::pin::Pin;
use std::task::{Context, Poll};

use adapter_api::{EngineBody, EngineError, Generation, GenerationEvent, SseDecoder, SseEvent};
use http_body::Body;

use crate::errors;
use crate::frames;

/// What one poll takes at most, so that a fast engine does not keep others waiting.
const POLL_BYTES_MAX: usize = 64 << 10;

pub(crate) struct LlamaGeneration {
    /// `None` once the last frame was read.
    body: Option<EngineBody>,
    decoder: SseDecoder,
    predicted: u32,
    /// Found behind events of the same poll, and told by the next one.
    failure: Option<EngineError>,
}

impl LlamaGeneration {
    pub(crate) fn new(body: EngineBody) -> Self {
        Self { body: Some(body), decoder: SseDecoder::default(), predicted: 0, failure: None }
    }

    fn drain(&mut self, events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        while let Some(event) = self.decoder.next_event() {
            match event {
                SseEvent::Data(data) => frames::read(data, &mut self.predicted, events)?,
                SseEvent::Error(error) => return Err(errors::from_line(error)),
                SseEvent::KeepAlive => {}
            }
            if let Some(GenerationEvent::Finished { .. }) = events.last() {
                self.body.take().into_iter().for_each(EngineBody::release);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads frames until nothing more has arrived.
    fn poll_arrived(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut Vec<GenerationEvent>,
    ) -> Poll<Result<(), EngineError>> {
        let mut taken = 0;
        while taken < POLL_BYTES_MAX {
            let Some(body) = &mut self.body else { break };
            let ended = |message: String| Poll::Ready(Err(EngineError::Reset { message }));
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                None => return ended("the stream ended without its last frame".into()),
                Some(Err(error)) => return ended(error.to_string()),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    taken += data.len();
                    self.decoder.push(data)?;
                    self.drain(events)?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Generation for LlamaGeneration {
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut Vec<GenerationEvent>,
    ) -> Poll<Result<(), EngineError>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if self.body.is_none() {
            let message = "polled after its end".to_owned();
            return Poll::Ready(Err(EngineError::Protocol { message }));
        }
        let before = events.len();
        loop {
            let polled = self.poll_arrived(cx, events);
            if before < events.len() {
                // A caller that sees an error looks no further, and must not lose what came first.
                if let Poll::Ready(Err(failure)) = polled {
                    self.failure = Some(failure);
                }
                return Poll::Ready(Ok(()));
            }
            match polled {
                // Comments, or the first part of a long event.
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }
}
