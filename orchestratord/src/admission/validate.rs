//! Everything about a request that can be judged without the fleet. All problems are reported at once.

mod input;

use api_types::{Detail, Placement, PlacementMode, SAMPLER_PROFILE, Sampling, TaskRequest};
use config_schema::pointer;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Refusal, Valid, seed_of};
use crate::fleet::ENGINES;

/// A request that asks for more is a mistake; contexts are far below.
const MAX_TOKENS_MAX: u32 = 1 << 20;
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;
const LABELS_MAX: usize = 8;
const LABEL_BYTES_MAX: usize = 64;
const GRACE_MS_MAX: u64 = 3_600_000;
/// A day.
const SPAN_MS_MAX: u64 = 86_400_000;
const SESSION_CHARS_MAX: usize = 128;
const POOLS_MAX: usize = 64;
/// 2^32 − 1 means "random" to llama.cpp.
const SEED_MAX: u32 = u32::MAX - 1;

/// Parses a body. The slow path, which finds out where an error is, runs only for a broken one.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let plain = match serde_json::from_slice(body) {
        Ok(request) => return Ok(request),
        Err(error) => error,
    };
    if plain.is_syntax() || plain.is_eof() {
        return Err(syntax(&plain));
    }
    let mut input = serde_json::Deserializer::from_slice(body);
    let located: Result<T, _> = serde_path_to_error::deserialize(&mut input);
    let Err(error) = located else { return Err(syntax(&plain)) };
    let (found, expected) = split(&error.inner().to_string());
    Err(Refusal::invalid(vec![Detail { pointer: pointer(error.path()), found, expected }]))
}

fn syntax(error: &serde_json::Error) -> Refusal {
    let found = error.to_string();
    let expected = "a JSON object".into();
    Refusal::invalid(vec![Detail { pointer: String::new(), found, expected }])
}

/// serde says "invalid type: string "x", expected u32 at line 1 column 9".
fn split(message: &str) -> (String, String) {
    let message = message.rsplit_once(" at line ").map_or(message, |it| it.0);
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, "a valid value"));
    (found.to_owned(), expected.to_owned())
}

/// Checks the fields and fills in the defaults that do not depend on the fleet.
pub(crate) fn validate(mut request: TaskRequest, streams: bool) -> Result<Valid, Refusal> {
    let mut found = Findings(Vec::new());
    found.not_yet(&request);
    found.input(&request);
    found.output(&request);
    found.numbers(&request);
    found.session(request.session_id.as_deref());
    found.transcript(&request);
    found.placement(request.placement.as_ref());
    found.sampling(request.sampling.as_ref());
    found.texts(&request);
    if !found.0.is_empty() {
        return Err(Refusal::invalid(found.0));
    }
    let id_named = request.task_id.is_some();
    let id = request.task_id.unwrap_or_else(Uuid::new_v4);
    let seed_named = request.seed.is_some();
    let seed = request.seed.unwrap_or_else(|| seed_of(id));
    request.task_id = Some(id);
    request.seed = Some(seed);
    request.sampler_profile_version.get_or_insert_with(|| SAMPLER_PROFILE.into());
    Ok(Valid { id, request, id_named, seed_named, streams })
}

struct Findings(Vec<Detail>);

impl Findings {
    fn check(&mut self, holds: bool, pointer: &str, found: impl ToString, expected: &str) {
        if !holds {
            self.0.push(Detail {
                pointer: pointer.into(),
                found: found.to_string(),
                expected: expected.into(),
            });
        }
    }

    fn absent<T>(&mut self, field: &Option<T>, pointer: &str, why: &str) {
        self.check(field.is_none(), pointer, "a value", why);
    }

    fn numbers(&mut self, request: &TaskRequest) {
        if let Some(max_tokens) = request.max_tokens {
            let holds = (1..=MAX_TOKENS_MAX).contains(&max_tokens);
            self.check(holds, "/max_tokens", max_tokens, "1 to 1048576");
        }
        if let Some(seed) = request.seed {
            self.check(seed <= SEED_MAX, "/seed", seed, "0 to 4294967294");
        }
        for (pointer, span) in [("/deadline_ms", request.deadline_ms), ("/ttl_ms", request.ttl_ms)]
        {
            let holds = span.is_none_or(|it| (1..=SPAN_MS_MAX).contains(&it));
            self.check(holds, pointer, span.unwrap_or(0), "1 to 86400000");
        }
        if let Some(tokens) = request.expected_tokens {
            let holds = (1..=MAX_TOKENS_MAX).contains(&tokens);
            self.check(holds, "/expected_tokens", tokens, "1 to 1048576");
        }
        if let Some(grace) = request.disconnect_grace_ms {
            self.check(grace <= GRACE_MS_MAX, "/disconnect_grace_ms", grace, "0 to 3600000");
        }
    }

    fn session(&mut self, session: Option<&str>) {
        let plain = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
        let Some(session) = session else { return };
        let holds = (1..=SESSION_CHARS_MAX).contains(&session.len()) && session.chars().all(plain);
        let expected = "1 to 128 of letters, digits, `.`, `_`, `-`";
        self.check(holds, "/session_id", format!("{} characters", session.len()), expected);
    }

    fn transcript(&mut self, request: &TaskRequest) {
        let holds = !request.transcript || request.ephemeral != Some(true);
        self.check(
            holds,
            "/transcript",
            "true",
            "false or nothing: an ephemeral task is in no file",
        );
    }

    /// Whether there are such pools is asked later.
    fn placement(&mut self, placement: Option<&Placement>) {
        let Some(it) = placement else { return };
        let count = |pools: &[String]| format!("{} pools", pools.len());
        for (pointer, pools) in [
            ("/placement/pool_ids", &it.pool_ids),
            ("/placement/avoid_pool_ids", &it.avoid_pool_ids),
        ] {
            self.check(pools.len() <= POOLS_MAX, pointer, count(pools), "at most 64 pools");
        }
        let named = !it.pool_ids.is_empty();
        match it.mode {
            PlacementMode::Auto => {
                let expected = "none with mode auto; mode `prefer` or `pin` takes them";
                self.check(!named, "/placement/pool_ids", count(&it.pool_ids), expected);
            }
            PlacementMode::Prefer | PlacementMode::Pin => {
                self.check(named, "/placement/pool_ids", "none", "at least one pool");
            }
        }
        for (index, pool) in it.avoid_pool_ids.iter().enumerate() {
            let pointer = format!("/placement/avoid_pool_ids/{index}");
            let expected = "a pool that is not in pool_ids as well";
            self.check(!it.pool_ids.contains(pool), &pointer, pool, expected);
        }
    }

    fn sampling(&mut self, sampling: Option<&Sampling>) {
        let Some(it) = sampling else { return };
        self.range("temperature", it.temperature, |x| (0.0..=2.0).contains(&x), "0 to 2");
        self.range("top_p", it.top_p, |x| 0.0 < x && x <= 1.0, "above 0, to 1");
        self.range("min_p", it.min_p, |x| (0.0..=1.0).contains(&x), "0 to 1");
        self.range("repeat_penalty", it.repeat_penalty, |x| 0.0 < x && x <= 2.0, "above 0, to 2");
        let signed = |x| (-2.0..=2.0).contains(&x);
        self.range("presence_penalty", it.presence_penalty, signed, "-2 to 2");
        self.range("frequency_penalty", it.frequency_penalty, signed, "-2 to 2");
    }

    fn range(
        &mut self,
        name: &str,
        value: Option<f32>,
        holds: impl Fn(f32) -> bool,
        expected: &str,
    ) {
        if let Some(value) = value {
            self.check(holds(value), &format!("/sampling/{name}"), value, expected);
        }
    }

    fn texts(&mut self, request: &TaskRequest) {
        if let Some(stops) = &request.stop {
            self.check(stops.len() <= STOPS_MAX, "/stop", stops.len(), "at most 16 sequences");
            for (index, stop) in stops.iter().enumerate() {
                let holds = (1..=STOP_BYTES_MAX).contains(&stop.len());
                let found = format!("{} bytes", stop.len());
                self.check(holds, &format!("/stop/{index}"), found, "1 to 256 bytes");
            }
        }
        if let Some(engine) = &request.engine {
            let known = ENGINES.contains(&engine.as_str());
            self.check(known, "/engine", engine, "llamacpp, vllm, tgi or triton");
        }
        let labels = &request.labels;
        self.check(labels.len() <= LABELS_MAX, "/labels", labels.len(), "at most 8 labels");
        for (name, value) in labels {
            let holds = name.len() <= LABEL_BYTES_MAX && value.len() <= LABEL_BYTES_MAX;
            let pointer = format!("/labels/{}", name.replace('~', "~0").replace('/', "~1"));
            self.check(holds, &pointer, "a long label", "at most 64 bytes of name and value");
        }
    }
}
