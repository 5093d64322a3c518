//! Heads of requests and answers (RFC 9112).

use http::{Method, StatusCode};

use super::framing::Framing;

/// More than any engine sends.
const HEADERS_MAX: usize = 64;
/// A head that is longer is not an engine's.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) framing: Framing,
    /// The connection can carry another request once the body has ended.
    pub(super) keeps: bool,
    /// Bytes that it took.
    pub(super) length: usize,
}

/// Reads the head at the start of `bytes`; `None` until it is there whole.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => {
            return Err(format!("its head exceeds {HEAD_BYTES_MAX} bytes"));
        }
        Err(error) => return Err(format!("its head is no HTTP: {error}")),
    };
    let status = response.code.and_then(|it| StatusCode::from_u16(it).ok());
    let status = status.ok_or("its status is no number from 100 to 999")?;
    let mut keeps = response.version == Some(1);
    let (mut chunked, mut coded, mut content_length) = (false, false, None);
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("connection") {
            let has = |word: &str| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(word));
            keeps = (keeps || has("keep-alive")) && !has("close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            coded = true;
            let last = value.rsplit(',').next().unwrap_or_default();
            chunked = last.trim().eq_ignore_ascii_case("chunked");
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let number: u64 =
                value.parse().map_err(|_| format!("its content-length is `{value}`"))?;
            if content_length.is_some_and(|it| it != number) {
                return Err("it has two lengths".into());
            }
            content_length = Some(number);
        }
    }
    let bare = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let framing = match (bare, coded, content_length) {
        (true, _, _) => Framing::length(0),
        (false, true, _) if chunked => Framing::chunked(),
        (false, false, Some(length)) => Framing::length(length),
        (false, _, _) => Framing::until_close(),
    };
    // Both ways of telling where it ends: a proxy on the way may disagree with us (RFC 9112, 6.1).
    keeps &= !(coded && content_length.is_some());
    Ok(Some(Head { status, framing, keeps, length }))
}

/// A request without its body. The caller vouches for `path` and the values of `headers`: nothing in
/// them ends a line.
pub(super) fn request(
    method: &Method,
    path: &str,
    headers: &[(&str, &[u8])],
    body_bytes: Option<usize>,
) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let mut header = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    for (name, value) in headers {
        header(name, value);
    }
    if let Some(bytes) = body_bytes {
        header("content-type", b"application/json");
        header("content-length", bytes.to_string().as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}
