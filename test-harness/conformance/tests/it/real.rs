//! The cases against servers that run already, as `LLAMA_ORCH_CONFORMS` names them; what they support
//! goes as JSON into the file that `LLAMA_ORCH_CONFORMS_OUT` names:
//! `vllm=http://127.0.0.1:8000,slots=4,context=1024,key=…;…`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adapter_api::Health;

use conformance::cases::{self, Support};
use conformance::{Setup, Subject};
use pool_api::{Engine, TritonFields};

fn named(text: &str) -> Subject {
    let mut parts = text.split(',');
    let (engine, url) = parts.next().unwrap().split_once('=').unwrap();
    if url == "sim" {
        assert_eq!(engine, "tgi", "the others can be had");
        return Subject::simulated(&Engine::Tgi, Setup::default());
    }
    let engine = match engine {
        "llamacpp" => Engine::Llamacpp,
        "vllm" => Engine::Vllm,
        "tgi" => Engine::Tgi,
        "triton" => super::triton(TritonFields::Vllm),
        "triton-custom" => super::custom(),
        other => panic!("no engine is called {other}"),
    };
    let number = |name: &str| {
        let value = parts.clone().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("`{text}` has no {name}")).parse().unwrap()
    };
    let key = parts.clone().find_map(|it| it.strip_prefix("key=")).filter(|it| !it.is_empty());
    Subject::real(&engine, url, key, number("slots"), number("context"))
}

macro_rules! told {
    ($subject:expr, [$($case:ident),* $(,)?]) => {
        vec![$((stringify!($case), cases::$case($subject).await)),*]
    };
}

/// Each case that needs no simulator.
async fn all(subject: &Subject) -> Vec<(&'static str, Support)> {
    if subject.sim.is_none() {
        cases::seeds_differ(subject).await;
    }
    of_any_server!(told!(subject,), [a_prompt_beyond_the_context_is_told])
}

/// The pinned llama.cpp; dropping it ends it.
struct LlamaServer {
    child: Child,
    url: String,
}

impl LlamaServer {
    #[expect(clippy::disallowed_methods, reason = "the test runner passes the engine's path so")]
    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let program = std::env::var("LLAMA_ORCH_ENGINE_BIN").unwrap_or_else(|_| {
            let script = root.join("ci/scripts/llamacpp/install.sh");
            let output = Command::new(script).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let child = Command::new(program)
            .arg("-m")
            .arg(root.join("models/tiny-scribe-q8_0.gguf"))
            .args(["--port", &address.port().to_string(), "-np", "2", "-c", "2048"])
            .args(["--alias", "tiny", "--metrics", "--slots", "--jinja"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{address}") }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

// ORCH-3054, OC-ADAPT-5001, OC-ADAPT-5080
#[tokio::test]
async fn the_real_llama_cpp_conforms() {
    let server = LlamaServer::start();
    let subject = Subject::real(&Engine::Llamacpp, &server.url, None, 2, 1_024);
    let start = Instant::now();
    while subject.adapter.health().await != Ok(Health::Ready) {
        assert!(start.elapsed() < conformance::LIMIT, "it does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = all(&subject).await;
    let lacking: Vec<_> = told.iter().filter(|it| it.1 == Support::No).map(|it| it.0).collect();
    assert_eq!(lacking, ["what_only_begins_like_a_stop_sequence_is_said"]);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "who runs the test names the servers")]
async fn servers_that_run_conform() {
    let Ok(servers) = std::env::var("LLAMA_ORCH_CONFORMS") else { return };
    let (mut versions, mut rows) = (Vec::new(), BTreeMap::new());
    for server in servers.split(';') {
        let subject = named(server);
        let properties = subject.adapter.properties().await.unwrap();
        let version = format!("{} {}", subject.engine.name(), properties.engine_version);
        let version = if subject.sim.is_some() { version + " (simulated)" } else { version };
        println!("{version}");
        for (case, support) in all(&subject).await {
            println!("  {case}: {support:?}");
            rows.entry(case).or_insert_with(Vec::new).push(format!("{support:?}"));
        }
        versions.push(version);
    }
    if let Ok(file) = std::env::var("LLAMA_ORCH_CONFORMS_OUT") {
        let told = serde_json::json!({"versions": versions, "cases": rows});
        std::fs::write(file, told.to_string()).unwrap();
    }
}
