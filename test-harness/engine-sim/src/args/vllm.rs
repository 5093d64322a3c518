//! vLLM's flags, as `vllm serve` and its API server module take them.

use std::time::Duration;

use super::flags::Flags;
use super::{Args, Dialect, Env, Start};

const VERSION: &str = "0.32.0\n";

const HELP: &str = "\
usage: engine-sim --dialect vllm [serve MODEL | -m vllm.entrypoints.openai.api_server] [flags]

flags of vLLM that have an effect:
  --model MODEL               is not read
  --served-model-name NAME... name the model is served under
  --host HOST, --port PORT    address to listen on; port 0 takes a free one
  --max-model-len N           context of one request
  --max-num-seqs N            requests that run at once
  --max-num-queued-reqs N     requests that wait; one more is answered 503
  --api-key KEY               also from VLLM_API_KEY
  --enable-prompt-tokens-details
  --runner pooling, --task embed|score
                              a model that embeds and ranks instead of completing
  --shutdown-timeout N        seconds that SIGTERM waits for open streams, 0 aborts them
VLLM_SERVER_DEV_MODE=1 opens /sleep, /wake_up, /is_sleeping and /abort_requests.
flags of vLLM that are accepted and ignored:
  --tensor-parallel-size --gpu-memory-utilization --seed --dtype --enforce-eager ...
The simulator's own flags are those that `engine-sim --help` ends in.
";

const IGNORED_SWITCHES: &[&str] = &[
    "--enable-sleep-mode",
    "--enforce-eager",
    "--no-enforce-eager",
    "--enable-per-request-metrics",
    "--enable-server-load-tracking",
    "--enable-lora",
    "--enable-log-requests",
    "--no-enable-log-requests",
    "--disable-log-requests",
    "--disable-log-stats",
    "--disable-uvicorn-access-log",
    "--enable-prefix-caching",
    "--no-enable-prefix-caching",
    "--enable-chunked-prefill",
    "--no-enable-chunked-prefill",
    "--enable-scale-out",
    "--enable-auto-tool-choice",
    "--trust-remote-code",
    "--disable-custom-all-reduce",
    "--async-scheduling",
    "--no-async-scheduling",
];

const IGNORED_OPTIONS: &[&str] = &[
    "--scheduling-policy",
    "--gpu-memory-utilization",
    "--tensor-parallel-size",
    "-tp",
    "--pipeline-parallel-size",
    "-pp",
    "--data-parallel-size",
    "-dp",
    "--generation-config",
    "--seed",
    "--max-num-batched-tokens",
    "--max-num-queued-tokens",
    "--stream-interval",
    "--kv-cache-memory-bytes",
    "--kv-cache-dtype",
    "--distributed-executor-backend",
    "--dtype",
    "--quantization",
    "-q",
    "--load-format",
    "--revision",
    "--tokenizer",
    "--tokenizer-mode",
    "--chat-template",
    "--block-size",
    "--swap-space",
    "--cpu-offload-gb",
    "--max-lora-rank",
    "--max-loras",
    "--max-logprobs",
    "--download-dir",
    "--uvicorn-log-level",
    "--api-server-count",
    "--root-path",
    "--tool-call-parser",
    "--reasoning-parser",
    "--speculative-config",
    "--compilation-config",
    "-O",
    "--hf-overrides",
    "--pooler-config",
    "--convert",
];

/// Options with one value or more.
const IGNORED_LISTS: &[&str] = &["--lora-modules", "--device-ids", "--middleware"];

pub(super) fn parse(flags: &mut Flags, env: Env) -> Result<Start, String> {
    let mut args = Args::new(Dialect::Vllm, 8000);
    args.slot_count = 256;
    args.slot_context = 8192;
    args.keys.extend(env.vllm_api_key.filter(|key| !key.is_empty()));
    args.vllm.dev_mode = env.vllm_dev_mode;
    while let Some(flag) = flags.next()? {
        match flag.as_str() {
            "-h" | "--help" => return Ok(Start::Help(HELP)),
            "-v" | "--version" => return Ok(Start::Version { text: VERSION, to_stderr: false }),
            known if IGNORED_SWITCHES.contains(&known) => {}
            known if IGNORED_OPTIONS.contains(&known) => drop(flags.value(&flag)?),
            known if IGNORED_LISTS.contains(&known) => drop(flags.values(&flag)?),
            _ => take(&mut args, &flag, flags)?,
        }
    }
    if args.model_path.is_empty() {
        args.model_path.push_str("sim");
    }
    if args.alias.is_empty() {
        args.alias.clone_from(&args.model_path);
    }
    Ok(Start::Serve(Box::new(args)))
}

fn take(args: &mut Args, flag: &str, rest: &mut Flags) -> Result<(), String> {
    match flag {
        // `python -m MODULE`: the module is this process.
        "-m" => drop(rest.value(flag)?),
        "serve" | "--model" => args.model_path = rest.value(flag)?,
        "--served-model-name" => args.alias = rest.values(flag)?.swap_remove(0),
        "--host" => args.host = rest.value(flag)?,
        "--port" => args.port = rest.number(flag)?,
        "--max-model-len" => args.slot_context = rest.number::<u32>(flag)?.max(1),
        "--max-num-seqs" => args.slot_count = rest.number::<u32>(flag)?.max(1),
        "--max-num-queued-reqs" => args.queue_max = Some(rest.number(flag)?),
        "--api-key" => args.keys = rest.values(flag)?,
        "--enable-prompt-tokens-details" => args.vllm.prompt_tokens_details = true,
        "--runner" => args.vllm.pooling |= rest.value(flag)? == "pooling",
        "--task" => {
            args.vllm.pooling |= matches!(rest.value(flag)?.as_str(), "embed" | "score");
        }
        "--shutdown-timeout" => args.drain = Duration::from_secs(rest.number(flag)?),
        _ if args.take_own(flag, rest)? => {}
        _ => return Err(format!("unrecognized arguments: {flag}")),
    }
    Ok(())
}
