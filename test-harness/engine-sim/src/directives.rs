//! Faults and shapes that a prompt asks for with `[[sim:KEY=N ...]]`, so that a test needs no channel
//! to the engine other than the request.

use std::time::Duration;

use memchr::memmem;

/// What ends a stream other than its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process aborts.
    Die,
    /// Nothing more is sent; the connection stays.
    Hang,
    /// The connection is reset.
    Reset,
    /// The chunked body ends properly, without a final event.
    Eof,
    /// An error event, then a proper end.
    Error,
    /// The sending side closes in the middle of a chunk.
    HalfClose,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Directives {
    /// The fault and the number of tokens before it.
    pub(crate) fault: Option<(u32, Fault)>,
    /// Tokens before an event that is not JSON; the stream goes on after it.
    pub(crate) malformed_after: Option<u32>,
    pub(crate) hang_ping: bool,
    /// Bytes per write; 0 is off.
    pub(crate) split: usize,
    /// Events per write; 0 is off.
    pub(crate) merge: u32,
    pub(crate) utf8: bool,
    pub(crate) slow_headers: Duration,
    /// Tokens until the end of text.
    pub(crate) tokens: Option<u32>,
    pub(crate) decode: Option<Duration>,
    pub(crate) status: Option<u16>,
    /// Bytes that each token's text is padded to.
    pub(crate) pad: usize,
}

const OPEN: &str = "[[sim:";

impl Directives {
    /// Collects the directives of `prompt`. An unknown one is refused: a test with a typing error
    /// must not pass as if the fault had happened.
    pub(crate) fn parse(prompt: &str) -> Result<Self, String> {
        let mut found = Self::default();
        for at in memmem::find_iter(prompt.as_bytes(), OPEN) {
            let rest = &prompt[at + OPEN.len()..];
            let (inside, _) = rest.split_once("]]").ok_or("unclosed [[sim: directive")?;
            for pair in inside.split([' ', ',']).filter(|pair| !pair.is_empty()) {
                found.set(pair)?;
            }
        }
        Ok(found)
    }

    fn set(&mut self, pair: &str) -> Result<(), String> {
        let refuse = || format!("unknown or malformed sim directive `{pair}`");
        let (key, value) = pair.split_once('=').ok_or_else(refuse)?;
        let count: u32 = value.parse().map_err(|_| refuse())?;
        match key {
            "die_after" => self.fault = Some((count, Fault::Die)),
            "hang_after" => self.fault = Some((count, Fault::Hang)),
            "reset_after" => self.fault = Some((count, Fault::Reset)),
            "eof_after" => self.fault = Some((count, Fault::Eof)),
            "error_after" => self.fault = Some((count, Fault::Error)),
            "half_close_after" => self.fault = Some((count, Fault::HalfClose)),
            "malformed_after" => self.malformed_after = Some(count),
            "hang_ping" => self.hang_ping = count != 0,
            "split" => self.split = count as usize,
            "merge" => self.merge = count,
            "utf8" => self.utf8 = count != 0,
            "slow_headers_ms" => self.slow_headers = Duration::from_millis(count.into()),
            "tokens" => self.tokens = Some(count),
            "decode_us" => self.decode = Some(Duration::from_micros(count.into())),
            "status" => self.status = Some(u16::try_from(count).map_err(|_| refuse())?),
            "len" => self.pad = count as usize,
            _ => return Err(refuse()),
        }
        Ok(())
    }
}
