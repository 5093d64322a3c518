//! Everything about a request that can be judged without the fleet. All problems are reported at once.

use api_types::{
    Detail, Determinism, OutputFormat, PromptInput, SAMPLER_PROFILE, Sampling, TaskRequest,
    Workload,
};
use config_schema::pointer;
use uuid::Uuid;

use super::{Refusal, Valid, seed_of};

/// A request that asks for more is a mistake; contexts are far below.
const MAX_TOKENS_MAX: u32 = 1 << 20;
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;
const LABELS_MAX: usize = 8;
const LABEL_BYTES_MAX: usize = 64;
const GRACE_MS_MAX: u64 = 3_600_000;
/// 2^32 − 1 means "random" to llama.cpp.
const SEED_MAX: u32 = u32::MAX - 1;

/// Parses a body. The slow path, which finds out where an error is, runs only for a broken one.
pub(crate) fn parse(body: &[u8]) -> Result<TaskRequest, Refusal> {
    let plain = match serde_json::from_slice(body) {
        Ok(request) => return Ok(request),
        Err(error) => error,
    };
    if plain.is_syntax() || plain.is_eof() {
        return Err(syntax(&plain));
    }
    let mut input = serde_json::Deserializer::from_slice(body);
    let located: Result<TaskRequest, _> = serde_path_to_error::deserialize(&mut input);
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
    found.numbers(&request);
    found.sampling(request.sampling.as_ref());
    found.texts(&request);
    if !found.0.is_empty() {
        return Err(Refusal::invalid(found.0));
    }
    let id = request.task_id.unwrap_or_else(Uuid::new_v4);
    let seed = request.seed.unwrap_or_else(|| seed_of(id));
    request.task_id = Some(id);
    request.seed = Some(seed);
    request.sampler_profile_version.get_or_insert_with(|| SAMPLER_PROFILE.into());
    Ok(Valid { id, request, seed, streams })
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

    /// Fields of later work are refused by name, never ignored.
    fn not_yet(&mut self, request: &TaskRequest) {
        const LATER: &str = "nothing: this is not supported yet";
        const NEVER: &str = "nothing: this is not part of version 1";
        self.absent(&request.session_id, "/session_id", LATER);
        self.absent(&request.ctx, "/ctx", LATER);
        self.absent(&request.deadline_ms, "/deadline_ms", LATER);
        self.absent(&request.ttl_ms, "/ttl_ms", LATER);
        self.absent(&request.expected_tokens, "/expected_tokens", LATER);
        self.absent(&request.placement, "/placement", LATER);
        self.absent(&request.inputs, "/inputs", LATER);
        self.absent(&request.query, "/query", LATER);
        self.absent(&request.documents, "/documents", LATER);
        self.check(
            request.workload == Workload::Completion,
            "/workload",
            request.workload.as_str(),
            "completion: other workloads are not supported yet",
        );
        self.check(
            request.determinism == Determinism::BestEffort,
            "/determinism",
            "strict",
            "best_effort: no recipe is proved deterministic yet",
        );
        self.check(
            request.ephemeral != Some(false),
            "/ephemeral",
            false,
            "true or nothing: durable tasks are not supported yet",
        );
        if let Some(output) = &request.output {
            self.check(
                output.format == OutputFormat::Text,
                "/output/format",
                "json",
                "text: structured output is not supported yet",
            );
            self.absent(&output.json_schema, "/output/json_schema", LATER);
            self.absent(&output.grammar, "/output/grammar", LATER);
        }
        self.absent(&request.tools, "/tools", NEVER);
        self.absent(&request.tool_choice, "/tool_choice", NEVER);
        self.absent(&request.logprobs, "/logprobs", NEVER);
        self.absent(&request.n, "/n", NEVER);
        self.absent(&request.images, "/images", NEVER);
        self.absent(&request.audio, "/audio", NEVER);
    }

    fn input(&mut self, request: &TaskRequest) {
        match (&request.prompt, &request.messages) {
            (Some(_), Some(_)) => self.check(
                false,
                "",
                "`prompt` and `messages`",
                "exactly one of `prompt` and `messages`",
            ),
            (None, None) => self.check(
                false,
                "",
                "neither `prompt` nor `messages`",
                "exactly one of `prompt` and `messages`",
            ),
            (Some(PromptInput::TokenIds(ids)), None) => {
                self.check(!ids.is_empty(), "/prompt", "no token ids", "at least one token id");
            }
            (Some(PromptInput::Text(_)), None) => {}
            (None, Some(messages)) => {
                self.check(!messages.is_empty(), "/messages", "none", "at least one message");
                for (index, message) in messages.iter().enumerate() {
                    self.check(
                        ["system", "user", "assistant"].contains(&message.role.as_str()),
                        &format!("/messages/{index}/role"),
                        &message.role,
                        "system, user or assistant",
                    );
                }
            }
        }
    }

    fn numbers(&mut self, request: &TaskRequest) {
        if let Some(max_tokens) = request.max_tokens {
            let holds = (1..=MAX_TOKENS_MAX).contains(&max_tokens);
            self.check(holds, "/max_tokens", max_tokens, "1 to 1048576");
        }
        if let Some(seed) = request.seed {
            self.check(seed <= SEED_MAX, "/seed", seed, "0 to 4294967294");
        }
        if let Some(grace) = request.disconnect_grace_ms {
            self.check(grace <= GRACE_MS_MAX, "/disconnect_grace_ms", grace, "0 to 3600000");
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
        let profile = request.sampler_profile_version.as_deref().unwrap_or(SAMPLER_PROFILE);
        self.check(
            profile == SAMPLER_PROFILE,
            "/sampler_profile_version",
            profile,
            SAMPLER_PROFILE,
        );
        if let Some(engine) = &request.engine {
            self.check(engine == "llamacpp", "/engine", engine, "llamacpp");
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
