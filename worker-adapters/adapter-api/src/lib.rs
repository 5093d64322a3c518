//! What an engine adapter is: the [`Adapter`] trait, the events a generation yields and the errors
//! an engine can cause, plus the HTTP client and SSE decoder that every adapter shares.
//!
//! Nothing here knows one engine's dialect, and nothing here schedules: an adapter is handed one
//! request for one replica and reports what that replica did.

mod adapter;
mod calls;
mod error;
mod exposition;
mod generation;
mod http;
mod openai;
mod retry;
mod sse;
mod stop;

pub use adapter::{
    Adapter, BoxFuture, ChatMessage, Constraint, Embeddings, EngineKind, Features, FinishReason,
    Generate, Generation, GenerationEvent, Grammar, Health, Load, Prompt, Properties, SETTINGS,
    Sampling, Scores, Timings, TokenPiece, Usage,
};
pub use calls::Calls;
pub use error::{EngineError, quote};
pub use exposition::{count, share};
pub use generation::{Frames, SseGeneration};
pub use http::{BodyError, EngineBody, EngineHttp, collect};
pub use openai::{embeddings, scores};
pub use retry::retry;
pub use sse::{SseDecoder, SseEvent};
