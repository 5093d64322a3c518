//! `llorch key new`.

use std::fmt::Write;

use anyhow::Context;
use sha2::{Digest, Sha256};

/// 256 random bits, so that a fast digest is enough to store them.
pub(crate) fn new() -> anyhow::Result<()> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("reading random bytes")?;
    let key = format!("llo_{}", hex(&bytes));
    println!("key (give it to the caller, it is not stored): {key}");
    println!("sha256 (goes under `keys` in the configuration): {}", hex(&Sha256::digest(&key)));
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every character");
        text
    })
}
