//! What would fail later with a worse message.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// A release build of the workspace and the engine's wheel.
const FREE_BYTES_MIN: u64 = 2 << 30;

pub(super) fn check(model: &Path, target: &Path, port: u16) -> anyhow::Result<()> {
    check_ports(port)?;
    gguf(model)?;
    space(target)?;
    memory(model)
}

/// `port` and the next one.
pub(crate) fn check_ports(port: u16) -> anyhow::Result<()> {
    ensure!(
        (1..u16::MAX).contains(&port),
        "--port {port} cannot be: orchestratord takes it and pool-managerd the next one; choose 1 to 65534"
    );
    ports(port)
}

fn gguf(model: &Path) -> anyhow::Result<()> {
    let mut magic = [0; 4];
    let read = std::fs::File::open(model).and_then(|mut it| it.read_exact(&mut magic));
    read.with_context(|| format!("cannot read the model `{}`", model.display()))?;
    ensure!(
        magic == *b"GGUF",
        "`{}` is no GGUF file: llama.cpp needs the model in that format",
        model.display()
    );
    Ok(())
}

fn ports(port: u16) -> anyhow::Result<()> {
    for port in [port, port + 1] {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            bail!(
                "port {port} is in use: stop the program that holds it \
                 (`ss -ltnp 'sport = :{port}'` shows it) or choose others with --port"
            );
        }
    }
    Ok(())
}

fn space(target: &Path) -> anyhow::Result<()> {
    let stat = rustix::fs::statvfs(target).context("asking for free space")?;
    let free = stat.f_bavail * stat.f_frsize;
    let mib = |bytes: u64| bytes >> 20;
    ensure!(
        FREE_BYTES_MIN <= free,
        "`{}` has {} MiB free and a build needs {}: make room or set CARGO_TARGET_DIR",
        target.display(),
        mib(free),
        mib(FREE_BYTES_MIN)
    );
    Ok(())
}

fn memory(model: &Path) -> anyhow::Result<()> {
    let needed = model.metadata().context("reading the model's size")?.len() / 5 * 6;
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return Ok(()) };
    let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|it| it.trim().strip_suffix(" kB")).and_then(|it| it.parse().ok());
    let Some(kib) = kib else { return Ok(()) };
    let available: u64 = kib;
    ensure!(
        needed <= available << 10,
        "the model needs about {} MiB of memory and {} are free: stop other programs or choose a \
         smaller model",
        needed >> 20,
        available >> 10
    );
    Ok(())
}
