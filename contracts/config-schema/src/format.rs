//! Texts with a grammar of their own: the values of `format` in the schema.

use std::net::SocketAddr;

/// Names that stand in the schema.
pub(crate) const ADDRESS: &str = "socket-address";
pub(crate) const IP: &str = "ip-address";
pub(crate) const BASE_URL: &str = "base-url";
pub(crate) const DIGEST: &str = "sha256";
pub(crate) const IDENTIFIER: &str = "identifier";
pub(crate) const LOG_FILTER: &str = "log-filter";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const IDENTIFIER_BYTES_MAX: usize = 64;

pub(crate) struct Format {
    pub(crate) expected: &'static str,
    pub(crate) holds: fn(&str) -> bool,
}

/// `None`: no format of this name.
pub(crate) fn named(name: &str) -> Option<Format> {
    let (expected, holds): (_, fn(&str) -> bool) = match name {
        IP => ("an IP address without a port, such as 10.0.0.5", |it| {
            it.parse::<std::net::IpAddr>().is_ok()
        }),
        ADDRESS => ("an address and port, such as 127.0.0.1:8420 or [::1]:8420", is_address),
        BASE_URL => ("a base URL: http://host:port", is_base_url),
        DIGEST => ("a SHA-256 digest of 64 hex digits (`llorch key new` makes one)", is_digest),
        IDENTIFIER => ("an id: 1 to 64 of letters, digits, `.`, `_`, `-`", is_identifier),
        LOG_FILTER => (
            "a log filter: off, error, warn, info, debug or trace; also by module: \
             info,orchestratord=debug",
            is_log_filter,
        ),
        _ => return None,
    };
    Some(Format { expected, holds })
}

fn is_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
}

fn is_base_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").unwrap_or_default().trim_end_matches('/');
    let foreign = |it: char| it.is_whitespace() || it.is_control() || "/?#@".contains(it);
    !host.is_empty() && !host.contains(foreign)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

fn is_identifier(text: &str) -> bool {
    (1..=IDENTIFIER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
}

/// A bare word is a level and never a module, so that `inof` is a mistake.
fn is_log_filter(text: &str) -> bool {
    let is_module =
        |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    text.split(',').all(|directive| match directive.split_once('=') {
        Some((module, level)) => module.split("::").all(is_module) && LEVELS.contains(&level),
        None => LEVELS.contains(&directive),
    })
}
