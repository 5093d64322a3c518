//! HTTP/1.1 as text, for clients that read it from the socket.

use crate::Exchange;

/// An answer, taken apart; a body in chunks is put together.
#[derive(Debug, Clone)]
pub struct RawAnswer<'a> {
    pub status: u16,
    pub headers: Vec<(&'a str, &'a str)>,
    pub body: String,
}

impl<'a> RawAnswer<'a> {
    /// `None` if the head is not complete or no head.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|it| it.split_once(':'));
        let headers: Vec<_> = headers.map(|(name, value)| (name, value.trim())).collect();
        let chunked = headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
        });
        let body = if chunked { unchunk(body) } else { body.to_owned() };
        Some(Self { status, headers, body })
    }

    #[must_use]
    pub fn exchange<'b>(&'b self, method: &'b str, target: &'b str) -> Exchange<'b> {
        let (status, headers) = (self.status, self.headers.clone());
        Exchange { method, target, request: None, status, headers, body: Some(&self.body) }
    }
}

fn unchunk(body: &str) -> String {
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some(chunk) = after.get(..size).filter(|it| !it.is_empty()) else { break };
        whole += chunk;
        rest = after.get(size + 2..).unwrap_or_default();
    }
    whole
}

#[cfg(test)]
mod tests;
