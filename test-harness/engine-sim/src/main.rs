//! `engine-sim`: a server process in the dialect of an inference engine, with numbered answers and
//! faults on demand.
//!
//! It is the reference of the benchmarks as well as the engine of the tests, so it serves from its
//! own HTTP/1.1 loop: a fault such as a reset or half a chunk needs the bare socket, and a relay is
//! only measured honestly against an engine that costs less than the relay.
//!
//! Each dialect is one module beside `llama`; what they share (sockets, slots, numbering, faults) is
//! here.

mod admin;
mod args;
mod decimal;
mod directives;
mod engine;
mod generation;
mod http;
mod live;
mod llama;
mod numbering;
mod pooling;
mod schema;
mod server;
mod slots;
mod speech;
mod stream;
mod template;
mod tgi;
mod triton;
mod vllm;
mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Args, Env, Start};
use crate::engine::Engine;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1), environment()) {
        Ok(Start::Serve(args)) => args,
        Ok(Start::Help(text)) => return say(&mut std::io::stdout(), text, ExitCode::SUCCESS),
        Ok(Start::Version { text, to_stderr: true }) => {
            return say(&mut std::io::stderr(), text, ExitCode::SUCCESS);
        }
        Ok(Start::Version { text, to_stderr: false }) => {
            return say(&mut std::io::stdout(), text, ExitCode::SUCCESS);
        }
        Err(message) => {
            let text = format!("error: {message}\n");
            return say(&mut std::io::stderr(), &text, ExitCode::FAILURE);
        }
    };
    match server::run(Arc::new(Engine::new(*args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut std::io::stderr(), &format!("error: {error:#}\n"), ExitCode::FAILURE)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment() -> Env {
    Env {
        llama_api_key: std::env::var("LLAMA_API_KEY").ok(),
        vllm_api_key: std::env::var("VLLM_API_KEY").ok(),
        tgi_api_key: std::env::var("API_KEY").ok(),
        vllm_dev_mode: std::env::var("VLLM_SERVER_DEV_MODE").is_ok_and(|value| value == "1"),
    }
}

fn say(to: &mut dyn Write, text: &str, code: ExitCode) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
