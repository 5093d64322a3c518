//! The command line: llama-server's flags, whose short forms (`-np 4`) no common parser accepts, and
//! the simulator's own.

use std::path::Path;
use std::time::Duration;

pub(crate) const VERSION: &str = "version: 0.5.0-dev (build 1, commit 0c1e570)\n";

pub(crate) const HELP: &str = "\
usage: engine-sim [flags]

flags of llama-server that have an effect:
  -m, --model FILE            must exist, is not read
  --no-model-file             serve without a model file
  --host HOST, --port PORT    address to listen on; port 0 takes a free one
  -a, --alias NAME            name the model is served under
  -c, --ctx-size N            context of all slots together
  -np, --parallel N           number of slots
  -ub, --ubatch-size N        prompt tokens per progress report
  --metrics, --slots, --no-slots
  --api-key KEY[,KEY]         also from LLAMA_API_KEY
  --sse-ping-interval N       seconds of silence before a comment, -1 for never
flags of llama-server that are accepted and ignored:
  --jinja --no-ui --no-webui --no-warmup -cb --no-cont-batching -t -tb -b -ngl -sm -ts -mg -dev -fa
  -ctk -ctv --fit --load-mode --slot-save-path --threads-http --timeout --cache-ram --seed ...
flags of the simulator:
  --prefill-us-per-token N    time per prompt token
  --decode-us-per-token N     time per generated token; 0 is as fast as possible
  --load-ms N                 time before the model counts as loaded
  --workers N                 threads that serve, default 1
  --seed-salt N               first number of every answer, for a replica that disagrees
  --keep-alive-requests N     close a connection silently after its Nth answer
";

const IGNORED_SWITCHES: &[&str] = &[
    "--jinja",
    "--no-jinja",
    "--ui",
    "--no-ui",
    "--webui",
    "--no-webui",
    "--no-warmup",
    "-cb",
    "--cont-batching",
    "--no-cont-batching",
    "-nocb",
    "--no-context-shift",
    "--kv-unified",
    "--no-kv-unified",
    "-kvu",
    "--no-cache-prompt",
    "--cache-prompt",
    "--swa-full",
    "--offline",
    "-v",
    "--verbose",
    "--log-disable",
    "--log-timestamps",
    "--log-prefix",
    "--props",
];

const IGNORED_OPTIONS: &[&str] = &[
    "-t",
    "--threads",
    "-tb",
    "--threads-batch",
    "-b",
    "--batch-size",
    "-ngl",
    "--gpu-layers",
    "--n-gpu-layers",
    "-sm",
    "--split-mode",
    "-ts",
    "--tensor-split",
    "-mg",
    "--main-gpu",
    "-dev",
    "--device",
    "-fa",
    "--flash-attn",
    "-ctk",
    "--cache-type-k",
    "-ctv",
    "--cache-type-v",
    "-fit",
    "--fit",
    "--load-mode",
    "--slot-save-path",
    "--threads-http",
    "--timeout",
    "--cache-ram",
    "-s",
    "--seed",
    "--chat-template",
    "--chat-template-file",
    "--slot-prompt-similarity",
    "--lora",
    "--api-prefix",
    "--log-file",
    "-lv",
    "--log-verbosity",
    "--reasoning-format",
];

pub(crate) enum Start {
    Serve(Box<Args>),
    Help,
    Version,
}

/// Values that have passed every check.
pub(crate) struct Args {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) alias: String,
    pub(crate) model_path: String,
    pub(crate) slot_count: u32,
    /// Context of one slot, in tokens.
    pub(crate) slot_context: u32,
    pub(crate) progress_tokens: u32,
    pub(crate) metrics: bool,
    pub(crate) slots: bool,
    /// Empty means open.
    pub(crate) keys: Vec<String>,
    pub(crate) ping: Option<Duration>,
    pub(crate) prefill_per_token: Duration,
    pub(crate) decode_per_token: Duration,
    pub(crate) load: Duration,
    pub(crate) workers: u32,
    pub(crate) first_number: u64,
    /// 0 means no end.
    pub(crate) keep_alive_requests: u32,
}

/// What the flags say before they are checked together.
struct Raw {
    alias: Option<String>,
    model: Option<String>,
    model_must_exist: bool,
    context: u32,
    args: Args,
}

impl Args {
    /// Reads the flags as the real engine does; the message of a refusal is the engine's own.
    pub(crate) fn parse(
        flags: impl Iterator<Item = String>,
        env_key: Option<String>,
    ) -> Result<Start, String> {
        let mut raw = Raw::new(env_key);
        let mut flags = flags;
        while let Some(flag) = flags.next() {
            match flag.as_str() {
                "-h" | "--help" | "--usage" => return Ok(Start::Help),
                "--version" => return Ok(Start::Version),
                known if IGNORED_SWITCHES.contains(&known) => {}
                known if IGNORED_OPTIONS.contains(&known) => drop(value(&flag, &mut flags)?),
                _ => raw.take(&flag, &mut flags)?,
            }
        }
        raw.check().map(|args| Start::Serve(Box::new(args)))
    }
}

impl Raw {
    fn new(env_key: Option<String>) -> Self {
        let args = Args {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            alias: String::new(),
            model_path: String::new(),
            slot_count: 4,
            slot_context: 0,
            progress_tokens: 512,
            metrics: false,
            slots: true,
            keys: env_key.map(|keys| split_keys(&keys)).unwrap_or_default(),
            ping: Some(Duration::from_secs(30)),
            prefill_per_token: Duration::ZERO,
            decode_per_token: Duration::ZERO,
            load: Duration::ZERO,
            workers: 1,
            first_number: 0,
            keep_alive_requests: 0,
        };
        Self { alias: None, model: None, model_must_exist: true, context: 32_768, args }
    }

    fn take(&mut self, flag: &str, rest: &mut dyn Iterator<Item = String>) -> Result<(), String> {
        let args = &mut self.args;
        match flag {
            "-m" | "--model" => self.model = Some(value(flag, rest)?),
            "--no-model-file" => self.model_must_exist = false,
            "--host" => args.host = value(flag, rest)?,
            "--port" => args.port = number(flag, rest)?,
            "-a" | "--alias" => self.alias = Some(value(flag, rest)?),
            "-c" | "--ctx-size" => self.context = number(flag, rest)?,
            "-np" | "--parallel" => args.slot_count = number(flag, rest)?,
            "-ub" | "--ubatch-size" => args.progress_tokens = number(flag, rest)?,
            "--metrics" => args.metrics = true,
            "--slots" => args.slots = true,
            "--no-slots" => args.slots = false,
            "--api-key" => args.keys = split_keys(&value(flag, rest)?),
            "--sse-ping-interval" => {
                let seconds: i64 = number(flag, rest)?;
                args.ping = u64::try_from(seconds).ok().map(Duration::from_secs);
            }
            "--prefill-us-per-token" => {
                args.prefill_per_token = Duration::from_micros(number(flag, rest)?);
            }
            "--decode-us-per-token" => {
                args.decode_per_token = Duration::from_micros(number(flag, rest)?);
            }
            "--load-ms" => args.load = Duration::from_millis(number(flag, rest)?),
            "--workers" => args.workers = number(flag, rest)?,
            "--seed-salt" => args.first_number = number(flag, rest)?,
            "--keep-alive-requests" => args.keep_alive_requests = number(flag, rest)?,
            _ => return Err(format!("invalid argument: {flag}")),
        }
        Ok(())
    }

    fn check(self) -> Result<Args, String> {
        let mut args = self.args;
        args.model_path = self.model.unwrap_or_default();
        if self.model_must_exist && !Path::new(&args.model_path).exists() {
            return Err(format!("failed to load model '{}'", args.model_path));
        }
        let stem = Path::new(&args.model_path).file_name().and_then(|name| name.to_str());
        args.alias = self.alias.unwrap_or_else(|| stem.unwrap_or("sim").to_owned());
        args.slot_count = args.slot_count.max(1);
        args.workers = args.workers.max(1);
        args.progress_tokens = args.progress_tokens.max(1);
        // Recorded: the real engine pads the context of a slot to 256 tokens.
        args.slot_context = self.context.div_ceil(args.slot_count).next_multiple_of(256);
        Ok(args)
    }
}

fn split_keys(keys: &str) -> Vec<String> {
    keys.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

fn value(flag: &str, rest: &mut dyn Iterator<Item = String>) -> Result<String, String> {
    rest.next().ok_or_else(|| format!("expected value for argument: {flag}"))
}

fn number<T: std::str::FromStr>(
    flag: &str,
    rest: &mut dyn Iterator<Item = String>,
) -> Result<T, String> {
    value(flag, rest)?.parse().map_err(|_| format!("invalid value for argument: {flag}"))
}
