//! HTTP/1.1 as text, for clients that read it from the socket.

/// Status, headers and body of an answer that is complete, or of its head alone.
#[must_use]
pub fn head(text: &str) -> Option<(u16, Vec<(&str, &str)>, &str)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|it| it.split_once(':'));
    Some((status, headers.map(|(name, value)| (name, value.trim())).collect(), body))
}

/// A body without the frames of its chunks; a body that has none stays as it is.
#[must_use]
pub fn unchunk(headers: &[(&str, &str)], body: &str) -> String {
    let chunked = |(name, value): &(&str, &str)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
    };
    if !headers.iter().any(chunked) {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some(chunk) = after.get(..size).filter(|it| !it.is_empty()) else { break };
        whole += chunk;
        rest = after.get(size + 2..).unwrap_or_default();
    }
    whole
}
