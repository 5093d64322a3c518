//! `engine-sim`: a server process in the dialect of an inference engine, with numbered answers and
//! faults on demand.
//!
//! It is the reference of the benchmarks as well as the engine of the tests, so it serves from its
//! own HTTP/1.1 loop: a fault such as a reset or half a chunk needs the bare socket, and a relay is
//! only measured honestly against an engine that costs less than the relay.
//!
//! Each dialect is one module beside `llama`; what they share (sockets, slots, numbering, faults) is
//! here.

mod args;
mod decimal;
mod directives;
mod engine;
mod llama;
mod numbering;
mod server;
mod slots;
mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::{Args, Start};
use crate::engine::Engine;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    let key = std::env::var("LLAMA_API_KEY").ok();
    let args = match Args::parse(std::env::args().skip(1), key) {
        Ok(Start::Serve(args)) => args,
        Ok(Start::Help) => return say(&mut std::io::stdout(), args::HELP, ExitCode::SUCCESS),
        // The real engine prints its version to stderr.
        Ok(Start::Version) => {
            return say(&mut std::io::stderr(), args::VERSION, ExitCode::SUCCESS);
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

fn say(to: &mut dyn Write, text: &str, code: ExitCode) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
