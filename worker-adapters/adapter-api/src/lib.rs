//! What an engine adapter is: the [`Adapter`] trait, the events a generation yields and the errors
//! an engine can cause, plus the HTTP client and SSE decoder that every adapter shares.
//!
//! Nothing here knows one engine's dialect, and nothing here schedules: an adapter is handed one
//! request for one replica and reports what that replica did.

mod adapter;
mod error;
mod http;
mod retry;
mod sse;

pub use adapter::{
    Adapter, BoxFuture, ChatMessage, EngineKind, FinishReason, Generate, Generation,
    GenerationEvent, Health, Load, Prompt, Properties, Sampling, Timings, TokenPiece, Usage,
};
pub use error::EngineError;
pub use http::{BodyError, EngineBody, EngineHttp, collect};
pub use retry::retry;
pub use sse::{SseDecoder, SseEvent};
