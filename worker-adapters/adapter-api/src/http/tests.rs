//! Heads and framing, cut anywhere and malformed.

use http::{Method, StatusCode};
use proptest::prelude::*;

use super::framing::Framing;
use super::head::{HEAD_BYTES_MAX, parse, request};

/// The body, and how many bytes of `parts` it took.
fn decode(mut framing: Framing, parts: &[&[u8]]) -> Result<(String, usize, bool), String> {
    let (mut out, mut taken) = (Vec::new(), 0);
    for part in parts {
        taken += framing.decode(part, &mut out)?;
    }
    Ok((String::from_utf8(out).unwrap(), taken, framing.is_done()))
}

#[test]
fn a_chunked_body_cut_anywhere_is_the_same() {
    let whole = "hello, great \r\n!".to_owned();
    let text = b"5;a=b\r\nhello\r\nB \r\n, great \r\n!\r\n0\r\nx-a: b\r\n\r\n";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let parts = [&text[..first], &text[first..second], &text[second..]];
            let decoded = decode(Framing::chunked(), &parts).unwrap();
            assert_eq!(decoded, (whole.clone(), text.len(), true), "{first} {second}");
        }
    }
}

#[test]
fn what_follows_the_end_is_left() {
    let text = b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK";
    assert_eq!(decode(Framing::chunked(), &[text]).unwrap(), ("a".into(), 11, true));
    assert_eq!(decode(Framing::length(2), &[b"abc"]).unwrap(), ("ab".into(), 2, true));
    assert_eq!(decode(Framing::length(0), &[b"abc"]).unwrap(), (String::new(), 0, true));
    assert_eq!(decode(Framing::length(4), &[b"abc"]).unwrap(), ("abc".into(), 3, false));
    let open = decode(Framing::until_close(), &[b"abc"]).unwrap();
    assert_eq!(open, ("abc".into(), 3, false));
}

#[test]
fn chunks_that_lie_are_refused() {
    for text in
        ["x\r\n", "\r\n", "5\r\nhello!\r\n", "-1\r\n", "5x\r\n", "1000000000000\r\n", "1,\r\n"]
    {
        assert!(decode(Framing::chunked(), &[text.as_bytes()]).is_err(), "{text:?}");
    }
    let endless = format!("1;{}", "a".repeat(20 << 10));
    assert!(decode(Framing::chunked(), &[endless.as_bytes()]).is_err());
    let endless = format!("0\r\n{}", "a: b\r\n".repeat(8 << 10));
    assert!(decode(Framing::chunked(), &[endless.as_bytes()]).is_err());
}

fn head(text: &str) -> (StatusCode, Framing, bool) {
    let head = parse(text.as_bytes()).unwrap().unwrap();
    assert_eq!(head.length, text.len());
    (head.status, head.framing, head.keeps)
}

#[test]
fn a_head_tells_where_the_body_ends_and_whether_the_connection_stays() {
    let ok = StatusCode::OK;
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", ok, Framing::length(3), true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", ok, Framing::chunked(), true),
        (
            "HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 3\r\n\r\n",
            ok,
            Framing::length(3),
            false,
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n", ok, Framing::length(3), false),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\n",
            ok,
            Framing::length(3),
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", ok, Framing::until_close(), true),
        (
            "HTTP/1.1 204 No\r\ncontent-length: 3\r\n\r\n",
            StatusCode::NO_CONTENT,
            Framing::length(0),
            true,
        ),
        // Two ways to tell the end: the chunks count, and the connection is not used again.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            ok,
            Framing::chunked(),
            false,
        ),
    ];
    for (text, status, framing, keeps) in cases {
        assert_eq!(head(text), (status, framing, keeps), "{text:?}");
    }
}

#[test]
fn heads_that_are_none_are_refused() {
    for text in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_BYTES_MAX));
    assert!(parse(endless.as_bytes()).is_err());
    assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), Ok(None));
}

#[test]
fn a_request_is_written_as_it_must_stand_on_the_wire() {
    let text = request(&Method::POST, "/x", &[("host", b"h:1"), ("authorization", b"k")], Some(2));
    let expected = "POST /x HTTP/1.1\r\nhost: h:1\r\nauthorization: k\r\ncontent-type: \
                    application/json\r\ncontent-length: 2\r\n\r\n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    assert_eq!(request(&Method::GET, "/", &[], None), b"GET / HTTP/1.1\r\n\r\n");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _head = parse(&bytes);
        let _body = Framing::chunked().decode(&bytes, &mut Vec::new());
    }
}
