//! tritonserver's flags, and which backend its one model has.

use std::time::Duration;

use super::flags::Flags;
use super::{Args, Dialect, Start};

const VERSION: &str = "2.51.0\n";

const HELP: &str = "\
usage: engine-sim --dialect triton [flags]

flags of tritonserver that have an effect:
  --http-address HOST, --http-port PORT        address to listen on; port 0 takes a free one
  --metrics-address HOST, --metrics-port PORT  address of /metrics
  --model-repository DIR        is not read
  --model-control-mode none|explicit
  --load-model MODEL            the model's name, `tiny` if absent
  --exit-timeout-secs N         seconds that SIGTERM waits for open streams
flags of tritonserver that are accepted and ignored:
  --grpc-port --strict-readiness --log-verbose --backend-config --allow-metrics ...
flags of the simulator for this dialect:
  --backend vllm|trtllm|ensemble|python        whose inputs and outputs the model has
  --max-num-seqs N              requests that run at once
  --max-queue-size N            requests that wait; one more is 503
  --max-model-len N             context of one request
The simulator's other flags are those that `engine-sim --help` ends in.
";

const IGNORED_OPTIONS: &[&str] = &[
    "--grpc-port",
    "--grpc-address",
    "--allow-http",
    "--allow-grpc",
    "--allow-metrics",
    "--allow-gpu-metrics",
    "--allow-cpu-metrics",
    "--metrics-interval-ms",
    "--metrics-config",
    "--strict-readiness",
    "--strict-model-config",
    "--disable-auto-complete-config",
    "--exit-on-error",
    "--repository-poll-secs",
    "--backend-directory",
    "--backend-config",
    "--repoagent-directory",
    "--cache-config",
    "--http-thread-count",
    "--http-restricted-api",
    "--http-header-forward-pattern",
    "--http-max-input-size",
    "--reuse-http-port",
    "--pinned-memory-pool-byte-size",
    "--cuda-memory-pool-byte-size",
    "--min-supported-compute-capability",
    "--model-load-thread-count",
    "--model-load-gpu-limit",
    "--model-namespacing",
    "--log-verbose",
    "--log-info",
    "--log-warning",
    "--log-error",
    "--log-format",
    "--log-file",
    "--trace-config",
    "--id",
    "--rate-limit",
    "--response-cache-byte-size",
];

/// Whose inputs and outputs the model has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Backend {
    /// vLLM's backend: sampling parameters as a JSON string, deltas.
    #[default]
    Vllm,
    /// TensorRT-LLM's LLM-API model: cumulative text.
    TrtLlm,
    /// TensorRT-LLM's older ensemble: deltas.
    Ensemble,
    /// A plain decoupled Python model: deltas and nothing else.
    Python,
}

pub(super) fn parse(flags: &mut Flags) -> Result<Start, String> {
    let mut args = Args::new(Dialect::Triton, 8000);
    args.slot_count = 256;
    args.slot_context = 8192;
    args.drain = Duration::from_secs(30);
    "127.0.0.1".clone_into(&mut args.triton.metrics_host);
    args.triton.metrics_port = 8002;
    while let Some(flag) = flags.next()? {
        match flag.as_str() {
            "-h" | "--help" => return Ok(Start::Help(HELP)),
            "--version" => return Ok(Start::Version { text: VERSION, to_stderr: false }),
            known if IGNORED_OPTIONS.contains(&known) => drop(flags.value(&flag)?),
            _ => take(&mut args, &flag, flags)?,
        }
    }
    // Without explicit control everything in the repository is loaded.
    args.triton.load_at_start = !args.triton.explicit || !args.alias.is_empty();
    if args.alias.is_empty() || args.alias == "*" {
        "tiny".clone_into(&mut args.alias);
    }
    Ok(Start::Serve(Box::new(args)))
}

fn take(args: &mut Args, flag: &str, rest: &mut Flags) -> Result<(), String> {
    let own = &mut args.triton;
    match flag {
        "--http-address" => args.host = rest.value(flag)?,
        "--http-port" => args.port = rest.number(flag)?,
        "--metrics-address" => own.metrics_host = rest.value(flag)?,
        "--metrics-port" => own.metrics_port = rest.number(flag)?,
        "--model-repository" | "--model-store" => args.model_path = rest.value(flag)?,
        "--model-control-mode" => own.explicit = rest.value(flag)? == "explicit",
        "--load-model" => args.alias = rest.value(flag)?,
        "--exit-timeout-secs" => args.drain = Duration::from_secs(rest.number(flag)?),
        "--backend" => own.backend = backend(&rest.value(flag)?)?,
        "--max-num-seqs" => args.slot_count = rest.number::<u32>(flag)?.max(1),
        "--max-queue-size" => args.queue_max = Some(rest.number(flag)?),
        "--max-model-len" => args.slot_context = rest.number::<u32>(flag)?.max(1),
        _ if args.take_own(flag, rest)? => {}
        _ => return Err(format!("unrecognized option '{flag}'")),
    }
    Ok(())
}

fn backend(name: &str) -> Result<Backend, String> {
    match name {
        "vllm" => Ok(Backend::Vllm),
        "trtllm" => Ok(Backend::TrtLlm),
        "ensemble" => Ok(Backend::Ensemble),
        "python" => Ok(Backend::Python),
        _ => Err(format!("unknown backend: {name}")),
    }
}
