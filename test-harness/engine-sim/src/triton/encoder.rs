//! The events of a streamed generation: the model's outputs with their names in order.

use std::io::Write as _;

use super::MODEL_VERSION;
use super::answers::error_body;
use super::request::Job;
use crate::args::Backend;
use crate::engine::Engine;
use crate::generation::{Clock, Ending};
use crate::stream::{self, HeadAt, Token};

pub(super) struct Encoder<'a> {
    engine: &'a Engine,
    job: &'a Job,
    /// All text so far, for the backend that repeats it; escaped for JSON.
    generated: Vec<u8>,
}

/// What one response of the model says.
pub(super) struct Response<'a> {
    pub(super) text: &'a [u8],
    pub(super) ending: Option<Ending<'a>>,
    /// Tokens that the response counts.
    pub(super) tokens: u32,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(engine: &'a Engine, job: &'a Job) -> Self {
        Self { engine, job, generated: Vec::new() }
    }
}

impl stream::Encoder for Encoder<'_> {
    const HEAD_AT: HeadAt = HeadAt::FirstEvent;
    const WATCHES: bool = false;
    const MALFORMED: &'static [u8] = b"data: {\"model_name\":\n\n";
    const TORN: &'static [u8] = b"75\r\ndata: {\"model_name\":\"";

    fn head(&self, out: &mut Vec<u8>) {
        push_stream_head(out, 200);
    }

    fn error_head(&self, out: &mut Vec<u8>) {
        push_stream_head(out, 400);
    }

    fn token(&mut self, event: &mut Vec<u8>, clock: &Clock, token: &Token<'_>) {
        event.extend_from_slice(b"data: ");
        let ending = token.ending;
        if self.engine.args.triton.backend == Backend::TrtLlm {
            self.generated.extend_from_slice(token.text);
            let response = Response { text: &self.generated, ending, tokens: clock.sent };
            push_response(event, self.engine, self.job, &response);
        } else {
            let response = Response { text: token.text, ending, tokens: 1 };
            push_response(event, self.engine, self.job, &response);
        }
        event.extend_from_slice(b"\n\n");
    }

    fn error(&self, event: &mut Vec<u8>) {
        push_error(event, "Error generating stream: failure on demand");
    }

    fn abort(&self, event: &mut Vec<u8>) -> bool {
        push_error(event, "Request cancelled by client");
        true
    }
}

pub(super) fn push_stream_head(out: &mut Vec<u8>, status: u16) {
    let reason = crate::http::reason(status);
    write(
        out,
        format_args!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    );
}

pub(super) fn push_error(event: &mut Vec<u8>, message: &str) {
    write(event, format_args!("data: {}\n\n", error_body(message)));
}

/// Appends a response as an object.
pub(super) fn push_response(out: &mut Vec<u8>, engine: &Engine, job: &Job, told: &Response<'_>) {
    let backend = engine.args.triton.backend;
    out.push(b'{');
    if backend == Backend::Ensemble {
        out.extend_from_slice(br#""batch_index":0,"context_logits":0.0,"cum_log_probs":0.0,"#);
    }
    if job.finish_reason {
        let reason = match told.ending {
            None => "None",
            Some(Ending::Eos | Ending::Stop(_)) => "stop",
            Some(Ending::Length | Ending::ContextFull) => "length",
            Some(Ending::Abort) => "abort",
        };
        write(out, format_args!(r#""finish_reason":"{reason}","#));
    }
    if backend == Backend::Ensemble {
        out.extend_from_slice(br#""generation_logits":0.0,"#);
    }
    if let Some(id) = &job.id {
        out.extend_from_slice(b"\"id\":");
        push_json(out, id);
        out.push(b',');
    }
    out.extend_from_slice(b"\"model_name\":");
    push_json(out, &engine.args.alias);
    write(out, format_args!(r#","model_version":"{MODEL_VERSION}","#));
    if job.input_tokens {
        write(out, format_args!(r#""num_input_tokens":{},"#, job.task.prompt_tokens));
    }
    if job.output_tokens {
        write(out, format_args!(r#""num_output_tokens":{},"#, told.tokens));
    }
    if backend == Backend::Ensemble {
        out.extend_from_slice(br#""output_log_probs":[0.0],"#);
    }
    if job.stop_reason {
        out.extend_from_slice(b"\"stop_reason\":");
        match told.ending {
            Some(Ending::Stop(word)) => push_json(out, word),
            _ => out.extend_from_slice(b"\"None\""),
        }
        out.push(b',');
    }
    out.extend_from_slice(b"\"text_output\":\"");
    out.extend_from_slice(told.text);
    out.extend_from_slice(b"\"}");
}

fn push_json(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a Vec cannot fail");
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}
