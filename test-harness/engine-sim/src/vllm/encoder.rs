//! The events of a streamed completion or chat, in the order of keys that was recorded.

use std::io::Write as _;

use super::answers::DEAD;
use super::request::{Job, Kind};
use crate::decimal::push_decimal;
use crate::engine::Engine;
use crate::generation::{Clock, Ending};
use crate::stream::{self, HeadAt, Last, Token};

pub(super) const FINGERPRINT: &str = "vllm-0.32.0-55bf8d20";

pub(super) struct Encoder<'a> {
    job: &'a Job,
    /// What every event starts with, up to the list of choices.
    start: Vec<u8>,
    cached_details: bool,
    /// Whether an event with a token was sent.
    begun: bool,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(engine: &'a Engine, job: &'a Job) -> Self {
        let mut start = b"data: ".to_vec();
        push_start(&mut start, engine, job, true);
        let cached_details = engine.args.vllm.prompt_tokens_details;
        Self { job, start, cached_details, begun: false }
    }

    fn push_usage(&self, event: &mut Vec<u8>, completion: u32) {
        let prompt = self.job.task.prompt_tokens;
        let total = prompt.saturating_add(completion);
        write(
            event,
            format_args!(
                r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}"#
            ),
        );
    }

    fn push_chat_role(&self, event: &mut Vec<u8>) {
        event.extend_from_slice(&self.start);
        event.extend_from_slice(br#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null"#);
        if self.job.usage_in_each {
            self.push_usage(event, 0);
            event.push(b'}');
        }
        event.extend_from_slice(b"}\n\n");
    }

    fn push_text_choice(&self, event: &mut Vec<u8>, token: &Token<'_>) {
        event.extend_from_slice(br#"{"index":0,"text":""#);
        event.extend_from_slice(token.text);
        event.extend_from_slice(br#"","logprobs":null,"finish_reason":"#);
        push_finish(event, token.ending);
        event.extend_from_slice(br#","stop_reason":"#);
        push_stop(event, token.ending);
        event.extend_from_slice(br#","prompt_token_ids":"#);
        match &self.job.prompt_ids {
            Some(ids) if !self.begun => push_ids(event, ids.iter().copied()),
            _ => event.extend_from_slice(b"null"),
        }
        self.push_token_ids(event, token);
    }

    fn push_chat_choice(&self, event: &mut Vec<u8>, token: &Token<'_>) {
        event.extend_from_slice(br#"{"index":0,"delta":{"content":""#);
        event.extend_from_slice(token.text);
        event.extend_from_slice(br#""},"logprobs":null,"finish_reason":"#);
        push_finish(event, token.ending);
        if token.ending.is_some() {
            event.extend_from_slice(br#","stop_reason":"#);
            push_stop(event, token.ending);
        }
        self.push_token_ids(event, token);
    }

    fn push_token_ids(&self, event: &mut Vec<u8>, token: &Token<'_>) {
        event.extend_from_slice(br#","token_ids":"#);
        if self.job.prompt_ids.is_some() {
            push_ids(event, [token.id].into_iter());
        } else {
            event.extend_from_slice(b"null");
        }
        event.extend_from_slice(b"}]");
    }
}

impl stream::Encoder for Encoder<'_> {
    const HEAD_AT: HeadAt = HeadAt::Once;
    const DONE: &'static [u8] = b"data: [DONE]\n\n";
    const MALFORMED: &'static [u8] = b"data: {\"id\":\"cmpl-\",\"choices\":\n\n";
    const TORN: &'static [u8] = b"75\r\ndata: {\"id\":\"cmpl-";

    fn head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    fn token(&mut self, event: &mut Vec<u8>, clock: &Clock, token: &Token<'_>) {
        if self.job.kind == Kind::Chat && !self.begun {
            self.push_chat_role(event);
        }
        event.extend_from_slice(&self.start);
        match self.job.kind {
            Kind::Text => self.push_text_choice(event, token),
            Kind::Chat => self.push_chat_choice(event, token),
        }
        if self.job.usage_in_each {
            self.push_usage(event, clock.sent);
            event.push(b'}');
        }
        if token.ending.is_some() && !self.job.usage_at_end {
            write(event, format_args!(r#","system_fingerprint":"{FINGERPRINT}""#));
        }
        event.extend_from_slice(b"}\n\n");
        self.begun = true;
    }

    fn last(&mut self, event: &mut Vec<u8>, last: &Last<'_>) {
        if !self.job.usage_at_end {
            return;
        }
        event.extend_from_slice(&self.start);
        event.push(b']');
        self.push_usage(event, last.clock.sent);
        if self.cached_details {
            event.extend_from_slice(br#","prompt_tokens_details":{"cached_tokens":0}"#);
        }
        write(event, format_args!("}},\"system_fingerprint\":\"{FINGERPRINT}\"}}\n\n"));
    }

    fn error(&self, event: &mut Vec<u8>) {
        // Recorded: the error has spaces where nothing else has.
        write(
            event,
            format_args!(
                "data: {{\"error\": {{\"message\": \"{DEAD}\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}}}\n\n"
            ),
        );
    }
}

/// Appends what a body starts with, up to and with the bracket that opens the list of choices.
pub(super) fn push_start(out: &mut Vec<u8>, engine: &Engine, job: &Job, streamed: bool) {
    let object = match (job.kind, streamed) {
        (Kind::Text, _) => "text_completion",
        (Kind::Chat, true) => "chat.completion.chunk",
        (Kind::Chat, false) => "chat.completion",
    };
    out.extend_from_slice(b"{\"id\":");
    push_json(out, &job.id);
    let created = job.created;
    write(out, format_args!(r#","object":"{object}","created":{created},"model":"#));
    push_json(out, &engine.args.alias);
    out.extend_from_slice(b",\"choices\":[");
}

/// Appends a finish reason, in quotes, or null.
pub(super) fn push_finish(out: &mut Vec<u8>, ending: Option<Ending<'_>>) {
    out.extend_from_slice(match ending {
        None => b"null",
        Some(Ending::Eos | Ending::Stop(_)) => b"\"stop\"",
        Some(Ending::Length | Ending::ContextFull) => b"\"length\"",
        Some(Ending::Abort) => b"\"abort\"",
    });
}

/// Appends the stop string that ended the text, or null.
pub(super) fn push_stop(out: &mut Vec<u8>, ending: Option<Ending<'_>>) {
    match ending {
        Some(Ending::Stop(word)) => push_json(out, word),
        _ => out.extend_from_slice(b"null"),
    }
}

pub(super) fn push_ids(out: &mut Vec<u8>, ids: impl Iterator<Item = u64>) {
    out.push(b'[');
    for (index, id) in ids.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_decimal(out, id);
    }
    out.push(b']');
}

fn push_json(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a Vec cannot fail");
}

pub(super) fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}
