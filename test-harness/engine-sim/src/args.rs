//! The command line: `--dialect`, the flags of the engine that it names, and the simulator's own.
//!
//! Each engine's flags are read by a module of their own, because no two of them agree on a grammar.

mod flags;
mod llama;
mod tgi;
mod triton;
mod vllm;

use std::time::Duration;

use self::flags::Flags;
pub(crate) use self::triton::Backend;

/// The engine whose protocol the process speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    LlamaCpp,
    Vllm,
    Tgi,
    Triton,
}

pub(crate) enum Start {
    Serve(Box<Args>),
    Help(&'static str),
    /// The real llama-server prints its version to stderr, the others to stdout.
    Version {
        text: &'static str,
        to_stderr: bool,
    },
}

/// The environment variables that an engine reads.
#[derive(Default)]
pub(crate) struct Env {
    pub(crate) llama_api_key: Option<String>,
    pub(crate) vllm_api_key: Option<String>,
    pub(crate) tgi_api_key: Option<String>,
    pub(crate) vllm_dev_mode: bool,
}

/// Values that have passed every check.
pub(crate) struct Args {
    pub(crate) dialect: Dialect,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name the model is served under.
    pub(crate) alias: String,
    pub(crate) model_path: String,
    /// Generations that run at once.
    pub(crate) slot_count: u32,
    /// Context of one generation, in tokens.
    pub(crate) slot_context: u32,
    /// Requests that may wait for a slot; `None` is no bound.
    pub(crate) queue_max: Option<u32>,
    /// Empty means open.
    pub(crate) keys: Vec<String>,
    /// Silence before a comment.
    pub(crate) ping: Option<Duration>,
    /// How long SIGTERM waits for open streams, where the engine drains.
    pub(crate) drain: Duration,
    pub(crate) pace: Pace,
    pub(crate) load: Duration,
    pub(crate) workers: u32,
    /// Added to the first number of every answer.
    pub(crate) first_number: u64,
    /// 0 means no end.
    pub(crate) keep_alive_requests: u32,
    pub(crate) llama: LlamaArgs,
    pub(crate) vllm: VllmArgs,
    pub(crate) tgi: TgiArgs,
    pub(crate) triton: TritonArgs,
}

/// Time per token.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

#[derive(Default)]
pub(crate) struct LlamaArgs {
    /// Prompt tokens per progress report.
    pub(crate) progress_tokens: u32,
    pub(crate) metrics: bool,
    pub(crate) slots: bool,
    pub(crate) embeddings: bool,
    pub(crate) reranking: bool,
}

#[derive(Default)]
pub(crate) struct VllmArgs {
    pub(crate) prompt_tokens_details: bool,
    pub(crate) dev_mode: bool,
    /// A pooling model: it embeds and ranks instead of completing.
    pub(crate) pooling: bool,
}

#[derive(Default)]
pub(crate) struct TgiArgs {
    pub(crate) concurrent_requests_max: u32,
    pub(crate) input_tokens_max: u32,
    pub(crate) stop_sequences_max: usize,
}

#[derive(Default)]
pub(crate) struct TritonArgs {
    pub(crate) metrics_host: String,
    pub(crate) metrics_port: u16,
    pub(crate) backend: Backend,
    /// Whether models are loaded and unloaded by request only.
    pub(crate) explicit: bool,
    /// Whether the model is loaded from the start.
    pub(crate) load_at_start: bool,
}

impl Args {
    /// Reads the flags as the engine of the dialect does.
    pub(crate) fn parse(flags: impl Iterator<Item = String>, env: Env) -> Result<Start, String> {
        let (dialect, flags) = take_dialect(flags)?;
        let mut flags = Flags::new(flags, dialect != Dialect::LlamaCpp);
        match dialect {
            Dialect::LlamaCpp => llama::parse(&mut flags, env.llama_api_key),
            Dialect::Vllm => vllm::parse(&mut flags, env),
            Dialect::Tgi => tgi::parse(&mut flags, env),
            Dialect::Triton => triton::parse(&mut flags),
        }
    }

    /// What holds for each dialect unless its flags say otherwise.
    fn new(dialect: Dialect, port: u16) -> Self {
        Self {
            dialect,
            host: "127.0.0.1".to_owned(),
            port,
            alias: String::new(),
            model_path: String::new(),
            slot_count: 1,
            slot_context: 0,
            queue_max: None,
            keys: Vec::new(),
            ping: None,
            drain: Duration::ZERO,
            pace: Pace::default(),
            load: Duration::ZERO,
            workers: 1,
            first_number: 0,
            keep_alive_requests: 0,
            llama: LlamaArgs::default(),
            vllm: VllmArgs::default(),
            tgi: TgiArgs::default(),
            triton: TritonArgs::default(),
        }
    }

    /// Takes `flag` if it is one of the simulator's own.
    fn take_own(&mut self, flag: &str, rest: &mut Flags) -> Result<bool, String> {
        match flag {
            "--prefill-us-per-token" => {
                self.pace.prefill = Duration::from_micros(rest.number(flag)?);
            }
            "--decode-us-per-token" => {
                self.pace.decode = Duration::from_micros(rest.number(flag)?);
            }
            "--load-ms" => self.load = Duration::from_millis(rest.number(flag)?),
            "--workers" => self.workers = rest.number::<u32>(flag)?.max(1),
            "--seed-salt" => self.first_number = rest.number(flag)?,
            "--keep-alive-requests" => self.keep_alive_requests = rest.number(flag)?,
            // Only llama-server's dialect looks for the file, and it takes the flag before this.
            "--no-model-file" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Takes `--dialect` out of the flags, wherever it stands.
fn take_dialect(
    flags: impl Iterator<Item = String>,
) -> Result<(Dialect, std::vec::IntoIter<String>), String> {
    let mut dialect = Dialect::LlamaCpp;
    let mut rest = Vec::new();
    let mut flags = flags;
    while let Some(flag) = flags.next() {
        let name = match flag.strip_prefix("--dialect") {
            Some("") => flags.next().ok_or("expected value for argument: --dialect")?,
            Some(value) if value.starts_with('=') => value[1..].to_owned(),
            _ => {
                rest.push(flag);
                continue;
            }
        };
        dialect = match name.as_str() {
            "llamacpp" => Dialect::LlamaCpp,
            "vllm" => Dialect::Vllm,
            "tgi" => Dialect::Tgi,
            "triton" => Dialect::Triton,
            _ => return Err(format!("unknown dialect: {name}")),
        };
    }
    Ok((dialect, rest.into_iter()))
}

fn split_keys(keys: &str) -> Vec<String> {
    keys.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect()
}
