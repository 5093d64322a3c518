//! Events and bodies of a generation, byte for byte in the order of keys that was recorded.

use std::io::Write;

use tokio::time::Instant;

use crate::decimal::push_decimal;
use crate::generation::{Clock, ms_between};

pub(super) const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nX-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n";
pub(super) const MID_STREAM_ERROR: &[u8] = b"data: {\"error\":{\"code\":500,\"message\":\"Context size has been exceeded.\",\"type\":\"server_error\"}}\n\n";

/// What `generation_settings` echoes.
pub(super) struct Settings {
    pub(super) seed: u32,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) top_k: i64,
    pub(super) min_p: f32,
    pub(super) repeat_penalty: f32,
    pub(super) presence_penalty: f32,
    pub(super) frequency_penalty: f32,
    pub(super) n_predict: i64,
    pub(super) stream: bool,
    pub(super) timings_per_token: bool,
    pub(super) stop: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: u32::MAX,
            temperature: 0.8,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            n_predict: -1,
            stream: false,
            timings_per_token: false,
            stop: Vec::new(),
        }
    }
}

/// The engine's clock, as `timings` tells it.
#[derive(Clone, Copy, Default)]
pub(super) struct Timings {
    pub(super) prompt_tokens: u32,
    pub(super) prompt_ms: f64,
    pub(super) predicted: u32,
    pub(super) predicted_ms: f64,
}

impl Timings {
    pub(super) fn of(prompt_tokens: u32, clock: &Clock, end: Instant) -> Self {
        Self {
            prompt_tokens,
            prompt_ms: ms_between(clock.prompt_start, clock.decode_start),
            predicted: clock.sent,
            predicted_ms: ms_between(clock.decode_start, end),
        }
    }
}

/// What every event of one answer repeats.
#[derive(Clone, Copy)]
pub(super) struct Common {
    pub(super) id_slot: i64,
    pub(super) evaluated: u32,
}

/// The last event of a stream, or the only body of an answer that is not one.
pub(super) struct Final<'a> {
    pub(super) content: &'a [u8],
    pub(super) tokens: &'a [u64],
    pub(super) slot: u32,
    pub(super) model: &'a str,
    pub(super) predicted: u32,
    pub(super) evaluated: u32,
    pub(super) settings: &'a Settings,
    /// Escaped already.
    pub(super) prompt: &'a [u8],
    pub(super) truncated: bool,
    pub(super) stop_type: &'static str,
    pub(super) stopping_word: &'a str,
    pub(super) timings: Timings,
}

/// Appends the event of one token, without its framing.
pub(super) fn push_token(out: &mut Vec<u8>, common: Common, text: &[u8], id: u64, predicted: u32) {
    out.extend_from_slice(b"data: {\"index\":0,\"content\":\"");
    out.extend_from_slice(text);
    push_counts(out, common, id, predicted);
}

/// Appends a progress event without its end, which [`push_timings`] and the caller add.
pub(super) fn push_progress(
    out: &mut Vec<u8>,
    common: Common,
    timings: Option<&Timings>,
    processed: u32,
    ms: u64,
) {
    // Recorded: the id 0 is made up; nothing was generated yet.
    out.extend_from_slice(b"data: {\"index\":0,\"content\":\"");
    push_counts(out, common, 0, 0);
    if let Some(timings) = timings {
        push_timings(out, timings);
    }
    out.extend_from_slice(b",\"prompt_progress\":{\"total\":");
    push_decimal(out, common.evaluated.into());
    out.extend_from_slice(b",\"cache\":0,\"processed\":");
    push_decimal(out, processed.into());
    out.extend_from_slice(b",\"time_ms\":");
    push_decimal(out, ms);
    out.extend_from_slice(b"}");
}

fn push_counts(out: &mut Vec<u8>, common: Common, id: u64, predicted: u32) {
    out.extend_from_slice(b"\",\"tokens\":[");
    push_decimal(out, id);
    out.extend_from_slice(b"],\"stop\":false,\"id_slot\":");
    if common.id_slot < 0 {
        out.push(b'-');
    }
    push_decimal(out, common.id_slot.unsigned_abs());
    out.extend_from_slice(b",\"tokens_predicted\":");
    push_decimal(out, predicted.into());
    out.extend_from_slice(b",\"tokens_evaluated\":");
    push_decimal(out, common.evaluated.into());
}

/// Appends the `timings` member with a comma in front.
pub(super) fn push_timings(out: &mut Vec<u8>, timings: &Timings) {
    let Timings { prompt_tokens, prompt_ms, predicted, predicted_ms } = *timings;
    let per = |ms: f64, count: u32| if count == 0 { 0.0 } else { ms / f64::from(count) };
    let rate = |ms: f64, count: u32| if ms > 0.0 { f64::from(count) * 1e3 / ms } else { 0.0 };
    write(
        out,
        format_args!(
            r#","timings":{{"cache_n":0,"prompt_n":{prompt_tokens},"prompt_ms":{prompt_ms:?},"prompt_per_token_ms":{:?},"prompt_per_second":{:?},"predicted_n":{predicted},"predicted_ms":{predicted_ms:?},"predicted_per_token_ms":{:?},"predicted_per_second":{:?}}}"#,
            per(prompt_ms, prompt_tokens),
            rate(prompt_ms, prompt_tokens),
            per(predicted_ms, predicted),
            rate(predicted_ms, predicted),
        ),
    );
}

/// Appends the last object, without `data: ` and framing.
pub(super) fn push_final(out: &mut Vec<u8>, last: &Final<'_>) {
    out.extend_from_slice(b"{\"index\":0,\"content\":\"");
    out.extend_from_slice(last.content);
    out.extend_from_slice(b"\",\"tokens\":[");
    for (index, &id) in last.tokens.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_decimal(out, id);
    }
    let Final { slot, model, predicted, evaluated, .. } = last;
    write(
        out,
        format_args!(
            r#"],"id_slot":{slot},"stop":true,"model":"{model}","tokens_predicted":{predicted},"tokens_evaluated":{evaluated},"generation_settings":"#
        ),
    );
    push_settings(out, last.settings);
    out.extend_from_slice(b",\"prompt\":\"<s>");
    out.extend_from_slice(last.prompt);
    let cached = evaluated + predicted.saturating_sub(1);
    let (truncated, stop_type) = (last.truncated, last.stop_type);
    write(
        out,
        format_args!(
            r#"","has_new_line":false,"truncated":{truncated},"stop_type":"{stop_type}","stopping_word":"#
        ),
    );
    push_json_string(out, last.stopping_word);
    write(out, format_args!(r#","tokens_cached":{cached}"#));
    push_timings(out, &last.timings);
    out.push(b'}');
}

pub(super) fn push_settings(out: &mut Vec<u8>, settings: &Settings) {
    let Settings { seed, top_k, n_predict, stream, timings_per_token, .. } = settings;
    // The real engine keeps single precision and prints double.
    let wide = |value: f32| f64::from(value);
    write(
        out,
        format_args!(
            r#"{{"seed":{seed},"temperature":{:?},"dynatemp_range":0.0,"dynatemp_exponent":1.0,"top_k":{top_k},"top_p":{:?},"min_p":{:?},"top_n_sigma":-1.0,"xtc_probability":0.0,"xtc_threshold":0.10000000149011612,"typical_p":1.0,"repeat_last_n":64,"repeat_penalty":{:?},"presence_penalty":{:?},"frequency_penalty":{:?},"dry_multiplier":0.0,"dry_base":1.75,"dry_allowed_length":2,"dry_penalty_last_n":64,"dry_sequence_breakers":["\n",":","\"","*"],"mirostat":0,"mirostat_tau":5.0,"mirostat_eta":0.10000000149011612,"adaptive_target":-1.0,"adaptive_decay":0.8999999761581421,"stop":["#,
            wide(settings.temperature),
            wide(settings.top_p),
            wide(settings.min_p),
            wide(settings.repeat_penalty),
            wide(settings.presence_penalty),
            wide(settings.frequency_penalty),
        ),
    );
    for (index, word) in settings.stop.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_json_string(out, word);
    }
    write(
        out,
        format_args!(
            r#"],"max_tokens":{n_predict},"n_predict":{n_predict},"n_keep":0,"n_discard":0,"ignore_eos":false,"stream":{stream},"logit_bias":[],"n_probs":0,"min_keep":0,"grammar":"","grammar_lazy":false,"grammar_triggers":[],"preserved_tokens":[],"chat_format":"Content-only","reasoning_format":"deepseek","reasoning_in_content":false,"generation_prompt":"","samplers":["penalties","dry","top_n_sigma","top_k","typ_p","top_p","min_p","xtc","temperature"],"speculative.types":"none","timings_per_token":{timings_per_token},"post_sampling_probs":false,"backend_sampling":false,"lora":[]}}"#
        ),
    );
}

fn push_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a Vec cannot fail");
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}
