//! What decoding costs: each adapter reads one long stream of engine-sim in its dialect, and the CPU time
//! and allocations of this thread are divided by the tokens. The engine is another process, so that
//! only socket, chunks, events and JSON are counted.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::path::PathBuf;

use adapter_api::GenerationEvent;
use anyhow::{Context, ensure};
use clap::Parser;
use conformance::{Setup, Subject, request};
use pool_api::{Engine, TritonFields, TritonModel};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const NS_MAX: f64 = 1_000.;
/// The token's text; buffers, which are few and shared by many tokens, are beside it.
const ALLOCATIONS_MAX: f64 = 1.;
const BUFFERS: f64 = 0.05;

#[derive(Parser)]
struct Arguments {
    /// Where the figures go, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Tokens of each stream.
    #[arg(long, default_value_t = 60_000)]
    tokens: u32,
    /// Streams of each adapter; the fastest counts, as the machine is shared.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's, which counts for the thread that asks.
struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be counted in another way")]
// SAFETY: every call is handed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has nowhere to count.
        let _ending = ALLOCATIONS.try_with(|it| it.set(it.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ending = ALLOCATIONS.try_with(|it| it.set(it.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of one token.
#[derive(Clone, Copy)]
struct Cost {
    ns: f64,
    allocations: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let triton = |fields| Engine::Triton(TritonModel { model: "tiny".into(), fields });
    let mut told = Vec::new();
    let mut holds = true;
    for (name, engine) in [
        ("llamacpp", Engine::Llamacpp),
        ("vllm", Engine::Vllm),
        ("tgi", Engine::Tgi),
        ("triton", triton(TritonFields::Vllm)),
    ] {
        let context_tokens = arguments.tokens + 64;
        let flags: &[&str] = match engine {
            Engine::Triton(_) => &["--max-model-len", "4000000"],
            _ => &[],
        };
        let setup = Setup { slots: 1, context_tokens, flags, ..Setup::default() };
        let subject = Subject::simulated(&engine, setup);
        let mut best = Cost { ns: f64::MAX, allocations: f64::MAX };
        for _ in 0..arguments.rounds {
            let cost = runtime.block_on(stream(&subject, arguments.tokens))?;
            best.ns = best.ns.min(cost.ns);
            best.allocations = best.allocations.min(cost.allocations);
        }
        let fits = best.ns <= NS_MAX && best.allocations <= ALLOCATIONS_MAX + BUFFERS;
        holds &= fits;
        let word = if fits { "holds" } else { "MISSED" };
        println!(
            "{name:9} {:6.0} ns/token (<= {NS_MAX})  {:5.3} allocations/token (<= {ALLOCATIONS_MAX})  {word}",
            best.ns, best.allocations
        );
        told.push(json!({"engine": name, "ns": best.ns, "allocations": best.allocations}));
    }
    if let Some(path) = &arguments.json {
        let text = Value::from(told).to_string();
        std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    ensure!(holds, "an adapter costs more than its goal");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn stream(subject: &Subject, tokens: u32) -> anyhow::Result<Cost> {
    let mut generation = subject.adapter.submit(request("x", tokens)).await?;
    let mut events = Vec::with_capacity(4_096);
    let (mut counted, mut finished) = (0, false);
    let (cpu, allocations) = (cpu_ns(), ALLOCATIONS.get());
    while !finished {
        poll_fn(|cx| generation.poll_events(cx, &mut events)).await?;
        for event in events.drain(..) {
            match event {
                GenerationEvent::Tokens(piece) => counted += piece.count,
                GenerationEvent::Finished { .. } => finished = true,
                GenerationEvent::PromptProgress { .. } => {}
            }
        }
    }
    let (cpu, allocations) = (cpu_ns() - cpu, ALLOCATIONS.get() - allocations);
    ensure!(counted == tokens, "{counted} tokens came, not {tokens}");
    let each = |total: u64| total as f64 / f64::from(tokens);
    Ok(Cost { ns: each(cpu), allocations: each(allocations) })
}

/// Of this thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}
