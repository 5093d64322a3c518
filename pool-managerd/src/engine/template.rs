//! How each engine is told what a pool's configuration says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config_schema::{EngineSource, PoolConfig, Workload};
use pool_api::{Engine, TritonModel};

use super::KeyedPort;
use crate::devices::Grant;
use crate::dialect;

/// An engine's own words for a pool.
pub(super) struct Template {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Template {
    /// `None` for an external pool.
    pub(super) fn of(pool: &PoolConfig, at: &KeyedPort, grant: &Grant) -> Option<Self> {
        let EngineSource::Managed { bin, model_path, .. } = &pool.source else { return None };
        let told = Told { pool, at, grant, model: model_path };
        let program = |usual: &str| bin.clone().unwrap_or_else(|| usual.into());
        Some(match &dialect::engine(pool) {
            Engine::Llamacpp => told.llamacpp(program("llama-server")),
            Engine::Vllm => told.vllm(program("vllm")),
            Engine::Tgi => told.tgi(program("text-generation-launcher")),
            Engine::Triton(model) => told.triton(program("tritonserver"), model),
        })
    }
}

struct Told<'a> {
    pool: &'a PoolConfig,
    at: &'a KeyedPort,
    grant: &'a Grant,
    model: &'a Path,
}

impl Told<'_> {
    fn context_tokens(&self) -> u32 {
        self.managed().0
    }

    fn slots(&self) -> u32 {
        self.managed().1
    }

    /// Context of a slot, slots, and seconds of grace.
    fn managed(&self) -> (u32, u32, u64) {
        match &self.pool.source {
            EngineSource::Managed { context_tokens, slots, stop_grace_ms, .. } => {
                (context_tokens.get(), slots.get(), stop_grace_ms / 1_000)
            }
            EngineSource::External { .. } => (0, 0, 0),
        }
    }

    /// Devices that the model is divided among evenly; `None` where there is one.
    fn parts(&self) -> Option<String> {
        let devices = self.pool.devices.len();
        (1 < devices).then(|| devices.to_string())
    }

    fn llamacpp(&self, program: PathBuf) -> Template {
        // The server divides its context evenly among its slots, but only when their number is
        // given: its automatic choice lets them overcommit one pool and fail together.
        let total = u64::from(self.context_tokens()) * u64::from(self.slots());
        let mut arguments = pairs(&[
            ("--host", self.at.host()),
            ("--port", self.at.port.to_string()),
            ("--alias", self.pool.model_id.clone()),
            ("-c", total.to_string()),
            ("-np", self.slots().to_string()),
            // A stream that is cut by SIGTERM closes at the next ping; the default is 30 s.
            ("--sse-ping-interval", "2".to_owned()),
        ]);
        arguments.splice(0..0, ["-m".into(), self.model.into()]);
        arguments.extend(["--metrics", "--slots", "--jinja"].map(OsString::from));
        // A text for a vector, and a pair for a score, must fit into one batch.
        let batch = self.context_tokens().to_string();
        match self.pool.workload {
            Workload::Completion => {}
            Workload::Embedding | Workload::Rerank => {
                let rerank = self.pool.workload == Workload::Rerank;
                arguments.push(if rerank { "--reranking" } else { "--embeddings" }.into());
                arguments.extend(pairs(&[("-b", batch.clone()), ("-ub", batch)]));
            }
        }
        if let Some(split) = &self.pool.split {
            let ratios: Vec<String> = split.iter().map(ToString::to_string).collect();
            arguments.extend(pairs(&[("-ts", ratios.join(","))]));
        }
        // Not on the command line, where every user of the machine could read it.
        let environment = vec![("LLAMA_API_KEY", self.at.key.clone())];
        Template { program, arguments, environment }
    }

    fn vllm(&self, program: PathBuf) -> Template {
        // A Python that has vLLM but not its launcher, as wheels for processors are, takes the module.
        let stem = program.file_name().map(|it| it.to_string_lossy().into_owned());
        let mut arguments: Vec<OsString> = if stem.is_some_and(|it| it.starts_with("python")) {
            let module = ["-m", "vllm.entrypoints.openai.api_server", "--model"];
            module.map(OsString::from).into()
        } else {
            vec!["serve".into()]
        };
        arguments.push(self.model.into());
        let (context_tokens, slots, grace) = self.managed();
        arguments.extend(pairs(&[
            ("--host", self.at.host()),
            ("--port", self.at.port.to_string()),
            ("--served-model-name", self.pool.model_id.clone()),
            ("--max-model-len", context_tokens.to_string()),
            ("--max-num-seqs", slots.to_string()),
            // Else its defaults for sampling would be its model's.
            ("--generation-config", "vllm".to_owned()),
            // With 0, its own, the server hangs for minutes on a stream that SIGTERM has cut.
            ("--shutdown-timeout", grace.saturating_sub(1).max(1).to_string()),
        ]));
        if self.pool.workload != Workload::Completion {
            arguments.extend(pairs(&[("--runner", "pooling".to_owned())]));
        }
        if let Some(parts) = self.parts() {
            arguments.extend(pairs(&[("--tensor-parallel-size", parts)]));
        }
        let mut environment = vec![
            ("VLLM_API_KEY", self.at.key.clone()),
            ("VLLM_NO_USAGE_STATS", "1".to_owned()),
            ("DO_NOT_TRACK", "1".to_owned()),
        ];
        match self.grant.gpu_share {
            // It fills what it is told it may, whether the model needs it or not.
            Some(share) => {
                arguments.extend(pairs(&[("--gpu-memory-utilization", format!("{share:.3}"))]));
            }
            // Whole GiB of main memory for its KV cache; its own default is 4.
            None => environment.push(("VLLM_CPU_KVCACHE_SPACE", "1".to_owned())),
        }
        Template { program, arguments, environment }
    }

    fn tgi(&self, program: PathBuf) -> Template {
        let (context_tokens, slots, _) = self.managed();
        let mut arguments = pairs(&[
            ("--hostname", self.at.host()),
            ("--port", self.at.port.to_string()),
            ("--max-total-tokens", context_tokens.to_string()),
            ("--max-input-tokens", context_tokens.saturating_sub(1).to_string()),
            ("--max-concurrent-requests", slots.to_string()),
        ]);
        arguments.splice(0..0, ["--model-id".into(), self.model.into()]);
        if let Some(parts) = self.parts() {
            arguments.extend(pairs(&[("--num-shard", parts)]));
        }
        if let Some(share) = self.grant.gpu_share {
            arguments.extend(pairs(&[("--cuda-memory-fraction", format!("{share:.3}"))]));
        }
        let environment = vec![("API_KEY", self.at.key.clone())];
        Template { program, arguments, environment }
    }

    /// It has no key; it is reached on the address that engines listen on, and nowhere else.
    fn triton(&self, program: PathBuf, model: &TritonModel) -> Template {
        let grace = self.managed().2.max(1);
        // Processes of one host share a directory of shared memory.
        let region = format!("python,shm-region-prefix-name=llama_orch_{}", self.at.port);
        let mut repository = OsString::from("--model-repository=");
        repository.push(self.model);
        let options = [
            format!("--http-address={}", self.at.host()),
            format!("--http-port={}", self.at.port),
            "--allow-grpc=false".to_owned(),
            // At a port of its own, which nobody reads: it counts streams as done while they run.
            "--allow-metrics=false".to_owned(),
            "--model-control-mode=explicit".to_owned(),
            format!("--load-model={}", model.model),
            "--strict-readiness=true".to_owned(),
            format!("--exit-timeout-secs={grace}"),
            format!("--backend-config={region}"),
        ];
        let mut arguments = vec![repository];
        arguments.extend(options.map(OsString::from));
        Template { program, arguments, environment: Vec::new() }
    }
}

fn pairs(options: &[(&str, String)]) -> Vec<OsString> {
    let pair = |(name, value): &(&str, String)| [OsString::from(*name), value.into()];
    options.iter().flat_map(pair).collect()
}
