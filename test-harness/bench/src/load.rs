//! The profiles. Direct and relayed load alternate within a round, so that a noisy machine is noisy
//! for both.
#![expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use figures::{Figures, median, percentile};
use tokio::task::JoinSet;

use crate::client::{Connection, Side, Timeline};
use crate::stack::Stack;

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
}

const C_STREAMS: usize = 200;
const C_TOKENS: usize = 50;
const C_STEP_MS: f64 = 20.;

/// CPU of a daemon that nobody talks to.
pub(crate) async fn idle(stack: &Stack, figures: &mut Figures) -> anyhow::Result<()> {
    let before = stack.cpu_s()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let percent = (stack.cpu_s()? - before) / 10. * 100.;
    figures.add("idle.cpu_percent", percent, "%", Some(("<=", 0.5)));
    Ok(())
}

/// 32 callers, and one caller, with answers of one token.
pub(crate) async fn a(stack: &Stack, plan: Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut ratios, mut directs, mut singles) = (Vec::new(), Vec::new(), Vec::new());
    let mut cpu = Vec::new();
    for _ in 0..plan.rounds {
        let direct = requests(&stack.direct, 32, 1, plan.seconds).await?;
        let before = stack.cpu_s()?;
        let relay = requests(&stack.relay, 32, 1, plan.seconds).await?;
        cpu.push((stack.cpu_s()? - before) * 1e6 / (relay * plan.seconds as f64));
        ratios.push(relay / direct);
        directs.push(direct);
        let direct = requests(&stack.direct, 1, 1, plan.seconds).await?;
        let relay = requests(&stack.relay, 1, 1, plan.seconds).await?;
        singles.push(relay / direct);
    }
    figures.add("relay.a.rps_ratio", median(ratios), "x", Some((">=", 0.20)));
    figures.add("relay.a.direct_rps", median(directs), "1/s", Some((">=", 40_000.)));
    figures.add("relay.a.cpu_us_per_request", median(cpu), "us", None);
    figures.add("relay.a1.rps_ratio", median(singles), "x", None);
    Ok(())
}

/// 64 streams of 256 tokens without delay. The engine writes each token by itself, as real ones do: the
/// simulator's own batches would make the direct side faster than any engine.
pub(crate) async fn b(stack: &Stack, plan: Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut ratios, mut directs) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let direct = requests(&one_by_one(&stack.direct), 64, 256, plan.seconds).await? * 256.;
        let relay = requests(&one_by_one(&stack.relay), 64, 256, plan.seconds).await? * 256.;
        ratios.push(relay / direct);
        directs.push(direct);
    }
    figures.add("relay.b.tokens_ratio", median(ratios), "x", Some((">=", 0.45)));
    figures.add("relay.b.direct_tokens_per_s", median(directs), "1/s", Some((">=", 300_000.)));
    Ok(())
}

fn one_by_one(side: &Side) -> Side {
    Side { prompt: "[[sim:merge=1]]", ..side.clone() }
}

/// Answers per second of `callers` connections that ask again and again.
async fn requests(side: &Side, callers: usize, tokens: usize, seconds: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut set = JoinSet::new();
    for _ in 0..callers {
        let side = side.clone();
        set.spawn(async move {
            let mut connection = Connection::open(&side).await?;
            let mut count = 0_usize;
            while Instant::now() < end {
                connection.ask(tokens).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(done) = set.join_next().await {
        total += done??;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

/// 200 streams of 50 tokens, 20 ms apart.
pub(crate) async fn c(stack: &Stack, plan: Plan, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut first, mut step, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let (direct_first, direct_late) = paced(&stack.direct).await?;
        let before = stack.cpu_s()?;
        let (relay_first, relay_late) = paced(&stack.relay).await?;
        cpu.push((stack.cpu_s()? - before) * 1e6 / (C_STREAMS * C_TOKENS) as f64);
        first.push(relay_first - direct_first);
        step.push(relay_late - direct_late);
    }
    figures.add("relay.c.added_ttft_ms_p50", median(first), "ms", Some(("<=", 0.30)));
    figures.add("relay.c.added_token_ms_p99", median(step), "ms", None);
    figures.add("relay.c.cpu_s_per_mtok", median(cpu), "s", Some(("<=", 25.)));
    Ok(())
}

/// Median time to the first token, and the 99th percentile of how late a token is against a steady
/// pace from its stream's first, in ms.
async fn paced(side: &Side) -> anyhow::Result<(f64, f64)> {
    let mut set = JoinSet::new();
    for index in 0..C_STREAMS {
        let side = side.clone();
        set.spawn(async move {
            // Spread over one step, so that tokens do not come in one burst.
            tokio::time::sleep(Duration::from_micros(100 * index as u64)).await;
            let mut connection = Connection::open(&side).await?;
            connection.ask(C_TOKENS).await
        });
    }
    let (mut firsts, mut lates) = (Vec::new(), Vec::new());
    while let Some(done) = set.join_next().await {
        let Timeline { sent, tokens } = done??;
        let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
        firsts.push(ms(sent, tokens[0]));
        let late = |(index, at): (usize, &Instant)| ms(tokens[0], *at) - C_STEP_MS * index as f64;
        lates.extend(tokens.iter().enumerate().skip(1).map(late));
    }
    Ok((percentile(&mut firsts, 50), percentile(&mut lates, 99)))
}

/// Memory of streams that are open and slow.
pub(crate) async fn d(stack: &Stack, streams: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let before = stack.resident_kib()?;
    let mut open = Vec::with_capacity(streams);
    for _ in 0..streams {
        let mut connection = Connection::open(&stack.relay).await?;
        connection.send(900).await?;
        open.push(connection);
    }
    for connection in &mut open {
        connection.first_token().await.context("a stream of profile D")?;
    }
    let kib = (stack.resident_kib()? - before) / streams as f64;
    figures.add("relay.d.kib_per_stream", kib, "KiB", Some(("<=", 38.)));
    Ok(())
}

/// From a client's close to the engine's notice, with a grace of 0.
pub(crate) async fn disconnect(stack: &Stack, figures: &mut Figures) -> anyhow::Result<()> {
    let mut waits = Vec::new();
    for _ in 0..50 {
        let side = Side { prompt: "[[sim:decode_us=2000]]", ..stack.relay.clone() };
        let mut connection = Connection::open(&side).await?;
        connection.send(900).await?;
        connection.first_token().await?;
        let closed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        drop(connection);
        let closed = u64::try_from(closed)?;
        let seen = loop {
            let seen = stack.last_disconnect_us().await?;
            if closed <= seen {
                break seen;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        waits.push((seen - closed) as f64 / 1e3);
    }
    figures.add("relay.disconnect_ms_p99", percentile(&mut waits, 99), "ms", Some(("<=", 10.)));
    Ok(())
}
