//! What is llama-server's own, beyond the cases that every adapter passes: recorded streams, and the
//! classes of its errors.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod calls;
mod failures;
mod streams;

use engine_sim::SimProcess;
use llamacpp::LlamaCpp;

fn sim(args: &[&str]) -> (SimProcess, LlamaCpp) {
    let sim = SimProcess::spawn(args);
    let adapter = at(&sim.base_url());
    (sim, adapter)
}

fn at(url: &str) -> LlamaCpp {
    LlamaCpp::new(url, None)
}
