//! One keep-alive connection that sends a prepared request and checks the numbered tokens of the
//! answer. Written on the socket: a client that costs more than the relay would measure itself.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where a side of the comparison listens, and how it speaks.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) prompt: &'static str,
    /// What stands before a token's text.
    pub(crate) marker: &'static [u8],
    /// Fields of the body besides the prompt; `{n}` is the number of tokens.
    pub(crate) fields: &'static str,
}

pub(crate) struct Connection {
    socket: TcpStream,
    side: Side,
    /// What was read and not taken apart yet.
    raw: Vec<u8>,
    /// The answer's body without its chunk framing.
    body: Vec<u8>,
}

/// When the answer's tokens came.
pub(crate) struct Timeline {
    pub(crate) sent: Instant,
    pub(crate) tokens: Vec<Instant>,
}

impl Connection {
    pub(crate) async fn open(side: &Side) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(side.address).await.context("connecting")?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, side: side.clone(), raw: Vec::new(), body: Vec::new() })
    }

    pub(crate) async fn send(&mut self, tokens: usize) -> anyhow::Result<()> {
        let fields = self.side.fields.replace("{n}", &tokens.to_string());
        let prompt = self.side.prompt;
        let body = format!("{{\"prompt\":\"{prompt}\",{fields}}}");
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             accept: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            self.side.path,
            body.len()
        );
        self.raw.clear();
        self.body.clear();
        self.socket.write_all(request.as_bytes()).await.context("sending")
    }

    /// Sends a request for `tokens` tokens and reads the answer to its end.
    pub(crate) async fn ask(&mut self, tokens: usize) -> anyhow::Result<Timeline> {
        let sent = Instant::now();
        self.send(tokens).await?;
        let mut timeline = Timeline { sent, tokens: Vec::with_capacity(tokens) };
        self.read_head().await?;
        let mut scanned = 0;
        loop {
            let ended = self.unchunk()?;
            let now = Instant::now();
            while let Some(at) = memmem::find(&self.body[scanned..], self.side.marker) {
                let start = scanned + at + self.side.marker.len();
                let Some(length) = memchr::memchr(b'"', &self.body[start..]) else { break };
                scanned = start + length;
                if length > 0 {
                    check(&self.body[start..scanned], timeline.tokens.len())?;
                    timeline.tokens.push(now);
                }
            }
            if ended {
                ensure!(
                    timeline.tokens.len() == tokens,
                    "{} of {tokens} tokens came",
                    timeline.tokens.len()
                );
                return Ok(timeline);
            }
            self.more().await?;
        }
    }

    /// Reads until the first token has come, and leaves the rest.
    pub(crate) async fn first_token(&mut self) -> anyhow::Result<()> {
        self.read_head().await?;
        while !self.unchunk()? && memmem::find(&self.body, self.side.marker).is_none() {
            self.more().await?;
        }
        Ok(())
    }

    async fn read_head(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(end) = memmem::find(&self.raw, b"\r\n\r\n") {
                ensure!(
                    self.raw.starts_with(b"HTTP/1.1 200"),
                    "{}",
                    String::from_utf8_lossy(&self.raw)
                );
                self.raw.drain(..end + 4);
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        if self.socket.read_buf(&mut self.raw).await.context("reading")? == 0 {
            bail!("the connection closed within an answer");
        }
        Ok(())
    }

    /// Moves whole chunks into the body; true after the last one.
    fn unchunk(&mut self) -> anyhow::Result<bool> {
        let mut at = 0;
        let mut ended = false;
        while let Some(line) = memmem::find(&self.raw[at..], b"\r\n") {
            let size = std::str::from_utf8(&self.raw[at..at + line])?;
            let size = usize::from_str_radix(size, 16).context("a chunk's size")?;
            let start = at + line + 2;
            if self.raw.len() < start + size + 2 {
                break;
            }
            self.body.extend_from_slice(&self.raw[start..start + size]);
            at = start + size + 2;
            if size == 0 {
                ended = true;
                break;
            }
        }
        self.raw.drain(..at);
        Ok(ended)
    }
}

/// Token `index` is ` index`: anything else was lost, doubled or reordered.
fn check(text: &[u8], index: usize) -> anyhow::Result<()> {
    let text = std::str::from_utf8(text)?;
    let found = text.strip_prefix(' ').and_then(|it| it.parse().ok());
    ensure!(found == Some(index), "token {index} is `{text}`");
    Ok(())
}
