//! Each directive once in one dialect, checked alike in all of them.

use std::io::{ErrorKind, Read};

use engine_sim::SimProcess;
use serde_json::Value;

use crate::wire::{begin, eventually, get, post, raw_post, read_until};

/// What tells a dialect's streams from another's.
pub(crate) struct Dialect {
    pub(crate) args: &'static [&'static str],
    pub(crate) path: &'static str,
    /// The body that streams five tokens of an answer to a prompt.
    pub(crate) body: fn(&str) -> Value,
    /// What each event of a token has, and no other.
    pub(crate) token: &'static str,
    /// What only a proper last event has: one of these.
    pub(crate) last: &'static [&'static str],
    /// The event of an error, up to where dialects agree.
    pub(crate) error: &'static str,
    /// Whether the stream ends in `[DONE]`.
    pub(crate) done: bool,
    /// Whether a client that goes is noticed without a write.
    pub(crate) watches: bool,
}

const END: &str = "\r\n0\r\n\r\n";

impl Dialect {
    fn spawn(&self) -> SimProcess {
        SimProcess::spawn(self.args)
    }

    fn raw(&self, sim: &SimProcess, directive: &str) -> (String, std::io::Result<()>) {
        raw_post(sim, self.path, &(self.body)(&format!("[[sim:{directive}]]")))
    }

    fn tokens_in(&self, raw: &str) -> usize {
        raw.matches(self.token).count()
    }

    fn is_finished(&self, raw: &str) -> bool {
        self.last.iter().any(|last| raw.contains(last))
    }

    pub(crate) fn check_all(&self) {
        self.check_ends();
        self.check_hangs();
        self.check_shapes();
        let mut sim = self.spawn();
        let (raw, _) = self.raw(&sim, "die_after=3");
        assert_eq!(self.tokens_in(&raw), 3);
        assert!(!sim.wait().unwrap().success());
    }

    fn check_ends(&self) {
        let sim = self.spawn();
        let (raw, end) = self.raw(&sim, "reset_after=2");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(self.tokens_in(&raw) <= 2, "{raw}");

        for (directive, tokens) in [("eof_after=2", 2), ("eof_after=5", 5)] {
            let (raw, _) = self.raw(&sim, directive);
            assert_eq!(self.tokens_in(&raw), tokens, "{raw}");
            assert!(raw.ends_with(END) && !self.is_finished(&raw), "{raw}");
        }
        let (raw, _) = self.raw(&sim, "error_after=1");
        assert_eq!(self.tokens_in(&raw), 1);
        let at = raw.find(self.error).unwrap();
        assert_eq!(raw[at..].contains("data: [DONE]"), self.done, "{raw}");
        assert!(raw.ends_with(END) && !self.is_finished(&raw), "{raw}");

        let (raw, _) = self.raw(&sim, "half_close_after=1");
        assert_eq!(self.tokens_in(&raw), 1);
        assert!(!raw.ends_with("\n") && raw.contains("75\r\ndata: {"), "{raw}");

        let (raw, _) = self.raw(&sim, "malformed_after=1");
        assert_eq!(self.tokens_in(&raw), 5);
        assert!(raw.contains(":\n\n") && self.is_finished(&raw), "{raw}");
    }

    fn check_hangs(&self) {
        let sim = self.spawn();
        let mut silent = begin(&sim, self.path, &(self.body)("[[sim:hang_after=1]]"));
        read_until(&mut silent, self.token);
        let mut pinged = begin(&sim, self.path, &(self.body)("[[sim:hang_after=1 hang_ping=1]]"));
        read_until(&mut pinged, "3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
        silent.set_nonblocking(true).unwrap();
        // The rest of what the first read may have missed comes before the silence.
        let end = loop {
            match silent.read(&mut [0; 99]) {
                Ok(count) => assert!(count > 0),
                Err(error) => break error,
            }
        };
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        drop(pinged);
        let busy = |count| get(&sim, "/sim/stats").json()["slots_busy"] == count;
        eventually("the client that went is noticed", || busy(1));
        if self.watches {
            drop(silent);
            eventually("a client that goes in silence is noticed", || busy(0));
        }
    }

    fn check_shapes(&self) {
        let sim = self.spawn();
        for shape in ["split=1 utf8=1", "split=7", "merge=3", "merge=100", "len=40", "decode_us=9"]
        {
            let (raw, _) = self.raw(&sim, shape);
            assert_eq!(self.tokens_in(&raw), 5, "{shape}: {raw}");
            assert!(self.is_finished(&raw), "{shape}: {raw}");
        }
        let (raw, _) = self.raw(&sim, "tokens=2 slow_headers_ms=5");
        assert!(raw.starts_with("HTTP/1.1 200 ") && self.is_finished(&raw), "{raw}");
        assert!(self.tokens_in(&raw) <= 3, "{raw}");
        assert_eq!(post(&sim, self.path, &(self.body)("[[sim:status=503]]")).status, 503);
    }
}
