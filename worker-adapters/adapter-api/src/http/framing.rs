//! Where a body ends (RFC 9112, 6 and 7.1).

/// Chunk extensions and trailers are skipped up to this many bytes each.
const SKIPPED_MAX: usize = 16 << 10;

/// A body's framing, and how far it has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framing(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Bytes that are left.
    Length(u64),
    UntilClose,
    /// The digits of a chunk's size.
    Size {
        value: u64,
        digits: u32,
    },
    /// What follows the size on its line.
    Extension {
        size: u64,
        skipped: usize,
    },
    /// Bytes that are left of a chunk.
    Data(u64),
    /// The line end behind a chunk.
    DataEnd,
    /// Header lines behind the last chunk, until an empty one.
    Trailer {
        line: usize,
        skipped: usize,
    },
    Done,
}

impl Framing {
    pub(super) fn length(bytes: u64) -> Self {
        Self(if bytes == 0 { State::Done } else { State::Length(bytes) })
    }

    pub(super) fn chunked() -> Self {
        Self(State::Size { value: 0, digits: 0 })
    }

    pub(super) fn until_close() -> Self {
        Self(State::UntilClose)
    }

    pub(super) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// The peer has closed; whether that is where the body ends.
    pub(super) fn ends_by_close(&self) -> bool {
        matches!(self.0, State::UntilClose | State::Done)
    }

    /// Appends what `input` holds of the body to `out`; returns how many bytes it took, which is all of
    /// them unless the body ended.
    ///
    /// # Errors
    /// What is wrong with the chunks.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let mut at = 0;
        while at < input.len() {
            at += match &mut self.0 {
                State::Done => break,
                State::UntilClose => {
                    out.extend_from_slice(&input[at..]);
                    input.len() - at
                }
                State::Length(left) | State::Data(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len() - at);
                    out.extend_from_slice(&input[at..at + taken]);
                    *left -= taken as u64;
                    if *left == 0 {
                        let chunk = matches!(self.0, State::Data(_));
                        self.0 = if chunk { State::DataEnd } else { State::Done };
                    }
                    taken
                }
                _ => {
                    self.line(input[at])?;
                    1
                }
            };
        }
        Ok(at)
    }

    /// One byte between chunks. Lone line feeds are taken as line ends, as most servers' peers do.
    fn line(&mut self, byte: u8) -> Result<(), String> {
        let next = match (&self.0, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                if *digits == 12 {
                    return Err("a chunk's size has more than 12 digits".into());
                }
                State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => {
                return Err(format!("a chunk's size starts with byte {byte:#04x}"));
            }
            (State::Size { value, .. }, b'\n') => Self::after_size(*value),
            (State::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') => {
                State::Extension { size: *value, skipped: 0 }
            }
            (State::Size { .. }, _) => {
                return Err(format!("a chunk's size has byte {byte:#04x} in it"));
            }
            (State::Extension { size, .. }, b'\n') => Self::after_size(*size),
            (State::Extension { size, skipped }, _) if *skipped < SKIPPED_MAX => {
                State::Extension { size: *size, skipped: skipped + 1 }
            }
            (State::DataEnd, b'\r') => return Ok(()),
            (State::DataEnd, b'\n') => State::Size { value: 0, digits: 0 },
            (State::DataEnd, _) => return Err("a chunk is longer than its size".into()),
            (State::Trailer { line: 0, .. }, b'\n') => State::Done,
            (State::Trailer { skipped, .. }, b'\n') => {
                State::Trailer { line: 0, skipped: *skipped }
            }
            (State::Trailer { .. }, b'\r') => return Ok(()),
            (State::Trailer { line, skipped }, _) if *skipped < SKIPPED_MAX => {
                State::Trailer { line: line + 1, skipped: skipped + 1 }
            }
            (State::Extension { .. } | State::Trailer { .. }, _) => {
                return Err(format!("more than {SKIPPED_MAX} bytes stand beside the chunks"));
            }
            (State::Length(_) | State::Data(_) | State::UntilClose | State::Done, _) => {
                unreachable!("these take no lines")
            }
        };
        self.0 = next;
        Ok(())
    }

    fn after_size(size: u64) -> State {
        if size == 0 { State::Trailer { line: 0, skipped: 0 } } else { State::Data(size) }
    }
}
