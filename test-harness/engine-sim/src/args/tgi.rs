//! The flags of `text-generation-launcher`.

use std::time::Duration;

use super::flags::Flags;
use super::{Args, Dialect, Env, Start, TgiArgs};

const VERSION: &str = "text-generation-launcher 3.3.6-dev0\n";

/// Recorded: a comment every 15 seconds of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Longer than any stream that somebody waits for.
const DRAIN: Duration = Duration::from_secs(3600);

const HELP: &str = "\
usage: engine-sim --dialect tgi [flags]

flags of text-generation-launcher that have an effect:
  --model-id MODEL              is not read; the name the model is served under
  --hostname HOST, --port PORT  address to listen on; port 0 takes a free one
  --max-concurrent-requests N   requests that are admitted; one more is `Model is overloaded`
  --max-batch-size N            of those, requests that run at once
  --max-input-tokens N          prompt tokens must be fewer
  --max-total-tokens N          context of one request
  --max-stop-sequences N
  --api-key KEY               also from API_KEY
flags of text-generation-launcher that are accepted and ignored:
  --num-shard --quantize --dtype --revision --max-batch-prefill-tokens --cuda-graphs ...
flag of the simulator for this dialect:
  --keep-alive-ms N             silence before a comment, 15000 if absent
The simulator's other flags are those that `engine-sim --help` ends in.
";

const IGNORED_SWITCHES: &[&str] = &[
    "--trust-remote-code",
    "--json-output",
    "--disable-custom-kernels",
    "--disable-grammar-support",
    "--ngrok",
    "--env",
    "-e",
];

const IGNORED_OPTIONS: &[&str] = &[
    "--revision",
    "--num-shard",
    "--sharded",
    "--quantize",
    "--speculate",
    "--dtype",
    "--kv-cache-dtype",
    "--max-best-of",
    "--max-top-n-tokens",
    "--max-client-batch-size",
    "--max-batch-prefill-tokens",
    "--max-batch-total-tokens",
    "--max-waiting-tokens",
    "--waiting-served-ratio",
    "--cuda-graphs",
    "--cuda-memory-fraction",
    "--rope-scaling",
    "--rope-factor",
    "--lora-adapters",
    "--prometheus-port",
    "--shard-uds-path",
    "--master-addr",
    "--master-port",
    "--huggingface-hub-cache",
    "--weights-cache-override",
    "--validation-workers",
    "--payload-limit",
    "--tokenizer-config-path",
    "--otlp-endpoint",
    "--otlp-service-name",
    "--cors-allow-origin",
    "--watermark-gamma",
    "--watermark-delta",
    "--usage-stats",
    "--graceful-termination-timeout",
];

/// What the flags say before they are checked together.
struct Raw {
    args: Args,
    batch_max: Option<u32>,
    input_max: Option<u32>,
}

pub(super) fn parse(flags: &mut Flags, env: Env) -> Result<Start, String> {
    let mut args = Args::new(Dialect::Tgi, 3000);
    args.model_path.push_str("sim");
    args.keys.extend(env.tgi_api_key.filter(|key| !key.is_empty()));
    args.slot_context = 4096;
    args.ping = Some(KEEP_ALIVE);
    args.drain = DRAIN;
    args.tgi = TgiArgs { concurrent_requests_max: 128, input_tokens_max: 0, stop_sequences_max: 4 };
    let mut raw = Raw { args, batch_max: None, input_max: None };
    while let Some(flag) = flags.next()? {
        match flag.as_str() {
            "-h" | "--help" => return Ok(Start::Help(HELP)),
            "-V" | "--version" => return Ok(Start::Version { text: VERSION, to_stderr: false }),
            known if IGNORED_SWITCHES.contains(&known) => {}
            known if IGNORED_OPTIONS.contains(&known) => drop(flags.value(&flag)?),
            _ => raw.take(&flag, flags)?,
        }
    }
    raw.check()
}

impl Raw {
    fn take(&mut self, flag: &str, rest: &mut Flags) -> Result<(), String> {
        let args = &mut self.args;
        match flag {
            "--model-id" => args.model_path = rest.value(flag)?,
            "--hostname" => args.host = rest.value(flag)?,
            "--port" | "-p" => args.port = rest.number(flag)?,
            "--max-concurrent-requests" => args.tgi.concurrent_requests_max = rest.number(flag)?,
            "--max-batch-size" => self.batch_max = Some(rest.number(flag)?),
            "--max-input-tokens" | "--max-input-length" => {
                self.input_max = Some(rest.number(flag)?);
            }
            "--max-total-tokens" => args.slot_context = rest.number(flag)?,
            "--max-stop-sequences" => args.tgi.stop_sequences_max = rest.number(flag)?,
            "--api-key" => args.keys = vec![rest.value(flag)?],
            "--keep-alive-ms" => args.ping = Some(Duration::from_millis(rest.number(flag)?)),
            _ if args.take_own(flag, rest)? => {}
            _ => return Err(format!("unexpected argument '{flag}' found")),
        }
        Ok(())
    }

    fn check(self) -> Result<Start, String> {
        let mut args = self.args;
        args.alias.clone_from(&args.model_path);
        let admitted = args.tgi.concurrent_requests_max.max(1);
        args.tgi.concurrent_requests_max = admitted;
        args.slot_count = self.batch_max.unwrap_or(admitted).clamp(1, admitted);
        args.queue_max = Some(admitted - args.slot_count);
        args.tgi.input_tokens_max =
            self.input_max.unwrap_or_else(|| args.slot_context.saturating_sub(1));
        if args.tgi.input_tokens_max >= args.slot_context {
            return Err("`max_input_tokens` must be < `max_total_tokens`".to_owned());
        }
        Ok(Start::Serve(Box::new(args)))
    }
}
