//! A running generation over server-sent events: what all engines have in common of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body;

use crate::stop::StopFilter;
use crate::{
    EngineBody, EngineError, FinishReason, Generation, GenerationEvent, SseDecoder, SseEvent,
    Timings, Usage, quote,
};

/// What one poll takes at most, so that a fast engine does not keep others waiting.
const POLL_BYTES_MAX: usize = 64 << 10;

/// How one engine's frames read, and what it has told so far.
pub trait Frames: Send {
    /// Appends what one frame says. [`GenerationEvent::Finished`] ends the stream.
    ///
    /// # Errors
    /// What the frame reports, or `Protocol` if it makes no sense.
    fn read(&mut self, data: &[u8], events: &mut Vec<GenerationEvent>) -> Result<(), EngineError>;

    /// The value of an `error:` line.
    fn error_line(&self, value: &[u8]) -> EngineError {
        EngineError::Reset { message: quote(value) }
    }

    /// The body has ended. An engine whose frames do not tell their end says here whether this is it.
    ///
    /// # Errors
    /// That the stream was cut.
    fn ended(&mut self, _events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        Err(EngineError::Reset { message: "the stream ended without its last frame".into() })
    }

    /// As far as it is known now.
    fn usage(&self) -> Usage;

    /// The engine works on it no more; only figures follow.
    fn is_over(&self) -> bool {
        false
    }
}

/// Body frames in, events out.
pub struct SseGeneration<F> {
    /// `None` once the last frame was read.
    body: Option<EngineBody>,
    decoder: SseDecoder,
    frames: F,
    stop: StopFilter,
    /// Came before anybody asked.
    first: Vec<GenerationEvent>,
    /// Found behind events of the same poll, and told by the next one.
    failure: Option<EngineError>,
}

impl<F: Frames + Unpin> SseGeneration<F> {
    /// `stop` holds the sequences that the engine does not look for as we promise; those that it does
    /// are left to it.
    #[must_use]
    pub fn new(body: EngineBody, frames: F, stop: Vec<String>) -> Self {
        Self {
            body: Some(body),
            decoder: SseDecoder::default(),
            frames,
            stop: StopFilter::new(stop),
            first: Vec::new(),
            failure: None,
        }
    }

    /// Waits for the first event, where a server accepts every request and tells only then that it
    /// has no room for it.
    ///
    /// # Errors
    /// The stream's, if it fails before any event.
    pub async fn begun(mut self) -> Result<Self, EngineError> {
        let mut events = Vec::new();
        poll_fn(|cx| self.poll_events(cx, &mut events)).await?;
        self.first = events;
        Ok(self)
    }

    fn drain(&mut self, events: &mut Vec<GenerationEvent>) -> Result<(), EngineError> {
        while self.body.is_some() {
            let before = events.len();
            match self.decoder.next_event() {
                None => return Ok(()),
                Some(SseEvent::KeepAlive) => {}
                Some(SseEvent::Data(data)) => self.frames.read(data, events)?,
                Some(SseEvent::Error(value)) => return Err(self.frames.error_line(value)),
            }
            self.settle(events, before);
        }
        Ok(())
    }

    /// Puts what came since `before` through the filter, and ends where the text or the stream does.
    fn settle(&mut self, events: &mut Vec<GenerationEvent>, before: usize) {
        let finished = matches!(events.last(), Some(GenerationEvent::Finished { .. }));
        let cut = self.cut(events, before);
        if finished || (cut && self.frames.is_over()) {
            self.body.take().into_iter().for_each(EngineBody::release);
        } else if cut {
            // The engine does not know: closing the connection tells it.
            self.body = None;
        }
    }

    /// Whether a stop sequence was found.
    fn cut(&mut self, events: &mut Vec<GenerationEvent>, before: usize) -> bool {
        if self.stop.is_off() {
            return false;
        }
        let mut index = before;
        while index < events.len() {
            match &mut events[index] {
                GenerationEvent::Tokens(piece) => {
                    let arrived = std::mem::take(piece);
                    let (sayable, found) = self.stop.push(arrived);
                    *piece = sayable;
                    if let Some(word) = found {
                        self.end_at(events, index, word);
                        return true;
                    }
                    if piece.count == 0 && piece.text.is_empty() {
                        events.remove(index);
                        continue;
                    }
                }
                GenerationEvent::Finished { .. } => {
                    let (rest, found) = self.stop.finish();
                    if 0 < rest.count {
                        events.insert(index, GenerationEvent::Tokens(rest));
                    }
                    if let Some(word) = found {
                        self.end_at(events, index, word);
                        return true;
                    }
                    break;
                }
                GenerationEvent::PromptProgress { .. } => {}
            }
            index += 1;
        }
        false
    }

    fn end_at(&self, events: &mut Vec<GenerationEvent>, index: usize, word: String) {
        let (usage, timings) = match events.last() {
            Some(GenerationEvent::Finished { usage, timings, .. }) => (*usage, *timings),
            _ => (self.frames.usage(), Timings::default()),
        };
        events.truncate(index + 1);
        let reason = FinishReason::StopSequence(word);
        events.push(GenerationEvent::Finished { reason, usage, timings });
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
            let reset = |message: String| Poll::Ready(Err(EngineError::Reset { message }));
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                None => {
                    let before = events.len();
                    self.frames.ended(events)?;
                    self.settle(events, before);
                    self.body = None;
                }
                Some(Err(error)) => return reset(error.to_string()),
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

impl<F: Frames + Unpin> Generation for SseGeneration<F> {
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut Vec<GenerationEvent>,
    ) -> Poll<Result<(), EngineError>> {
        if !self.first.is_empty() {
            events.append(&mut self.first);
            return Poll::Ready(Ok(()));
        }
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
