//! llama-server's flags, whose short forms (`-np 4`) no common parser accepts.

use std::path::Path;
use std::time::Duration;

use super::flags::Flags;
use super::{Args, Dialect, LlamaArgs, Start, split_keys};

const VERSION: &str = "version: 0.5.0-dev (build 1, commit 0c1e570)\n";

const HELP: &str = "\
usage: engine-sim [--dialect llamacpp|vllm|tgi|triton] [flags of that engine]

The dialect is llamacpp unless it is named; `--dialect X --help` shows the flags of X.

flags of llama-server that have an effect:
  -m, --model FILE            must exist, is not read
  --no-model-file             serve without a model file
  --host HOST, --port PORT    address to listen on; port 0 takes a free one
  -a, --alias NAME            name the model is served under
  -c, --ctx-size N            context of all slots together
  -np, --parallel N           number of slots
  -ub, --ubatch-size N        prompt tokens per progress report
  --metrics, --slots, --no-slots
  --embeddings, --reranking   open the routes of that name
  --api-key KEY[,KEY]         also from LLAMA_API_KEY
  --sse-ping-interval N       seconds of silence before a comment, -1 for never
flags of llama-server that are accepted and ignored:
  --jinja --no-ui --no-webui --no-warmup -cb --no-cont-batching -t -tb -b -ngl -sm -ts -mg -dev -fa
  -ctk -ctv --fit --load-mode --slot-save-path --threads-http --timeout --cache-ram --seed --pooling ...
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
    "--pooling",
];

/// What the flags say before they are checked together.
struct Raw {
    alias: Option<String>,
    model: Option<String>,
    model_must_exist: bool,
    context: u32,
    args: Args,
}

/// Reads the flags as the real engine does; the message of a refusal is the engine's own.
pub(super) fn parse(flags: &mut Flags, env_key: Option<String>) -> Result<Start, String> {
    let mut raw = Raw::new(env_key);
    while let Some(flag) = flags.next()? {
        match flag.as_str() {
            "-h" | "--help" | "--usage" => return Ok(Start::Help(HELP)),
            "--version" => return Ok(Start::Version { text: VERSION, to_stderr: true }),
            known if IGNORED_SWITCHES.contains(&known) => {}
            known if IGNORED_OPTIONS.contains(&known) => drop(flags.value(&flag)?),
            _ => raw.take(&flag, flags)?,
        }
    }
    raw.check().map(|args| Start::Serve(Box::new(args)))
}

impl Raw {
    fn new(env_key: Option<String>) -> Self {
        let mut args = Args::new(Dialect::LlamaCpp, 8080);
        args.slot_count = 4;
        args.keys = env_key.map(|keys| split_keys(&keys)).unwrap_or_default();
        args.ping = Some(Duration::from_secs(30));
        args.llama = LlamaArgs { progress_tokens: 512, slots: true, ..LlamaArgs::default() };
        Self { alias: None, model: None, model_must_exist: true, context: 32_768, args }
    }

    fn take(&mut self, flag: &str, rest: &mut Flags) -> Result<(), String> {
        let args = &mut self.args;
        match flag {
            "-m" | "--model" => self.model = Some(rest.value(flag)?),
            "--no-model-file" => self.model_must_exist = false,
            "--host" => args.host = rest.value(flag)?,
            "--port" => args.port = rest.number(flag)?,
            "-a" | "--alias" => self.alias = Some(rest.value(flag)?),
            "-c" | "--ctx-size" => self.context = rest.number(flag)?,
            "-np" | "--parallel" => args.slot_count = rest.number(flag)?,
            "-ub" | "--ubatch-size" => args.llama.progress_tokens = rest.number(flag)?,
            "--metrics" => args.llama.metrics = true,
            "--slots" => args.llama.slots = true,
            "--no-slots" => args.llama.slots = false,
            "--embeddings" | "--embedding" => args.llama.embeddings = true,
            "--reranking" | "--rerank" => args.llama.reranking = true,
            "--api-key" => args.keys = split_keys(&rest.value(flag)?),
            "--sse-ping-interval" => {
                let seconds: i64 = rest.number(flag)?;
                args.ping = u64::try_from(seconds).ok().map(Duration::from_secs);
            }
            _ if args.take_own(flag, rest)? => {}
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
        args.llama.progress_tokens = args.llama.progress_tokens.max(1);
        // Recorded: the real engine pads the context of a slot to 256 tokens.
        args.slot_context = self.context.div_ceil(args.slot_count).next_multiple_of(256);
        Ok(args)
    }
}
