//! A running completion: body frames in, events out.

use std::pin::Pin;
use std::task::{Context, Poll};

use adapter_api::{EngineError, Generation, GenerationEvent, SseDecoder, SseEvent};
use http_body::Body;
use hyper::body::Incoming;

use crate::frames;

/// What one poll takes at most, so that a fast engine does not keep others waiting.
const POLL_BYTES_MAX: usize = 64 << 10;

pub(crate) struct LlamaGeneration {
    body: Incoming,
    decoder: SseDecoder,
    predicted: u32,
}

impl LlamaGeneration {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, decoder: SseDecoder::default(), predicted: 0 }
    }

    fn drain(&mut self, events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        while let Some(event) = self.decoder.next_event() {
            match event {
                SseEvent::Data(data) => frames::read(data, &mut self.predicted, events)?,
                SseEvent::Error(error) => {
                    let message = String::from_utf8_lossy(error).into_owned();
                    return Err(EngineError::Reset { message });
                }
                SseEvent::KeepAlive => {}
            }
        }
        Ok(())
    }
}

impl Generation for LlamaGeneration {
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut Vec<GenerationEvent>,
    ) -> Poll<Result<(), EngineError>> {
        let mut taken = 0;
        loop {
            let finished = matches!(events.last(), Some(GenerationEvent::Finished { .. }));
            if finished || POLL_BYTES_MAX <= taken {
                return Poll::Ready(Ok(()));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if events.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(())),
            };
            let ended = |message: String| Poll::Ready(Err(EngineError::Reset { message }));
            match frame {
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
    }
}
