//! Server-sent events as bytes (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use serde::Serialize;

/// Sent when a stream is silent, so that proxies and clients see that it lives.
pub(crate) const HEARTBEAT: &[u8] = b":\n\n";

/// Appends one event. `id` is absent on events that are not replayed.
///
/// JSON has no raw line breaks, so one `data:` line always suffices.
pub(crate) fn write(out: &mut Vec<u8>, id: Option<u64>, event: &str, data: &impl Serialize) {
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        write_number(out, id);
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, data).expect("wire types always serialise");
    out.extend_from_slice(b"\n\n");
}

/// A `token` event without the detour over an owned [`api_types::Token`].
#[derive(Serialize)]
pub(crate) struct TokenRef<'a> {
    pub(crate) t: &'a str,
    pub(crate) i: u64,
    pub(crate) n: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<&'a [u32]>,
}

/// Where each of these whole events ends. JSON has no raw line breaks, so an empty line is the end of an
/// event.
pub(crate) fn ends(frames: &[u8]) -> impl Iterator<Item = usize> {
    frames.windows(2).enumerate().filter(|(_, it)| *it == b"\n\n").map(|(at, _)| at + 2)
}

/// Splits whole events.
pub(crate) fn split(frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    ends(frames).map(move |end| &frames[std::mem::replace(&mut start, end)..end])
}

/// The data of an event, if that is its name.
pub(crate) fn data_of<'a>(event: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut lines = event.split(|it| *it == b'\n').skip(1);
    let named = lines.next()?.strip_prefix(b"event: ")?;
    (named == name.as_bytes()).then(|| lines.next()?.strip_prefix(b"data: "))?
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    use std::io::Write;
    write!(out, "{number}").expect("a vector takes every byte");
}
