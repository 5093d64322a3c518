//! The events of a streamed generation.

use std::io::Write as _;

use super::answers::{self, Refusal};
use super::request::Job;
use crate::decimal::push_decimal;
use crate::generation::{Clock, Ending};
use crate::stream::{self, HeadAt, Token};

/// What the end of text looks like among the tokens.
const EOS_TEXT: &[u8] = b"<|end|>";

pub(super) struct Encoder<'a> {
    job: &'a Job,
    characters: usize,
    /// All text so far, which the last event repeats; escaped for JSON.
    generated: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(job: &'a Job, characters: usize) -> Self {
        Self { job, characters, generated: job.full_text_start.clone() }
    }
}

impl stream::Encoder for Encoder<'_> {
    const HEAD_AT: HeadAt = HeadAt::Once;
    const UPPER_HEX: bool = true;
    const MALFORMED: &'static [u8] = b"data: {\"index\":1,\"token\":\n\n";
    const TORN: &'static [u8] = b"75\r\ndata: {\"index\":1,\"token\":{";

    fn head(&self, out: &mut Vec<u8>) {
        answers::push_stream_head(out, self.characters);
    }

    fn token(&mut self, event: &mut Vec<u8>, clock: &Clock, token: &Token<'_>) {
        self.generated.extend_from_slice(token.text);
        event.extend_from_slice(b"data: {\"index\":");
        push_decimal(event, clock.sent.into());
        event.extend_from_slice(b",\"token\":");
        push_token(event, token.text, token.id, token.special);
        match token.ending {
            None => event.extend_from_slice(b",\"generated_text\":null,\"details\":null"),
            Some(ending) => {
                event.extend_from_slice(b",\"generated_text\":\"");
                event.extend_from_slice(&self.generated);
                event.extend_from_slice(b"\",\"details\":");
                if self.job.details {
                    push_details(event, self.job, ending, clock.sent);
                    write(
                        event,
                        format_args!(r#","input_length":{}}}"#, self.job.task.prompt_tokens),
                    );
                } else {
                    event.extend_from_slice(b"null");
                }
            }
        }
        event.extend_from_slice(b"}\n\n");
    }

    fn error(&self, event: &mut Vec<u8>) {
        write(event, format_args!("data: {}\n\n", Refusal::generation().body()));
    }
}

/// Appends a token as an object.
pub(super) fn push_token(out: &mut Vec<u8>, text: &[u8], id: u64, special: bool) {
    out.extend_from_slice(b"{\"id\":");
    push_decimal(out, id);
    out.extend_from_slice(b",\"text\":\"");
    out.extend_from_slice(if special { EOS_TEXT } else { text });
    write(out, format_args!(r#"","logprob":-1.0,"special":{special}}}"#));
}

/// Appends the details, without the end of the object.
pub(super) fn push_details(out: &mut Vec<u8>, job: &Job, ending: Ending<'_>, sent: u32) {
    let reason = match ending {
        Ending::Eos => "eos_token",
        Ending::Stop(_) => "stop_sequence",
        Ending::Length | Ending::ContextFull | Ending::Abort => "length",
    };
    write(out, format_args!(r#"{{"finish_reason":"{reason}","generated_tokens":{sent},"seed":"#));
    match job.seed {
        Some(seed) => push_decimal(out, seed),
        None => out.extend_from_slice(b"null"),
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}
