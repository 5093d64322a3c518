//! A socket that answers every request with the same bytes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Answers the first connection with `parts`, each a chunk of its own. The handle yields what was
/// asked.
///
/// # Panics
/// If no socket can be opened.
pub async fn serve_once(status: &str, parts: &[&[u8]]) -> (String, JoinHandle<String>) {
    let (listener, url) = listen().await;
    let answer = answer(status, parts, false);
    let asked = tokio::runtime::Handle::current().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        converse(&mut stream, &answer).await
    });
    (url, asked)
}

/// Answers the first request with `text` in chunks of 0 bytes and the rest, the next one in chunks of
/// 1 byte and the rest, and so on; what is to be answered `first` comes before all of them. On connections that stay: one for each answer would use up the
/// ports of the machine for a minute.
///
/// # Panics
/// If no socket can be opened.
pub async fn serve_cut_everywhere(first: Option<&str>, text: &'static [u8]) -> String {
    let (listener, url) = listen().await;
    let answers = (0..=text.len()).map(|cut| {
        let (head, tail) = text.split_at(cut);
        let mut answer = STREAM_HEAD.to_vec();
        push_chunks(&mut answer, &[head, tail]);
        answer
    });
    let first = first.map(|it| answer("200 OK", &[it.as_bytes()], true));
    let answers = Arc::new(Mutex::new(first.into_iter().chain(answers)));
    let runtime = tokio::runtime::Handle::current();
    runtime.clone().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answers = Arc::clone(&answers);
            runtime.spawn(async move {
                while read_request(&mut stream).await.is_some() {
                    let answer = answers.lock().unwrap().next().unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            });
        }
    });
    url
}

/// Answers every connection with `parts`.
///
/// # Panics
/// If no socket can be opened.
pub async fn serve_all(status: &str, parts: &[&[u8]]) -> String {
    let (listener, url) = listen().await;
    let answer = answer(status, parts, false);
    tokio::runtime::Handle::current().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            converse(&mut stream, &answer).await;
        }
    });
    url
}

/// Answers the first connection with one chunk and never ends the body. The handle yields whether the
/// client is still there a while later.
///
/// # Panics
/// If no socket can be opened.
pub async fn serve_without_end(part: &[u8]) -> (String, JoinHandle<bool>) {
    let (listener, url) = listen().await;
    let mut answer = answer("200 OK", &[part], false);
    answer.truncate(answer.len() - b"0\r\n\r\n".len());
    let stays = tokio::runtime::Handle::current().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        converse(&mut stream, &answer).await;
        let left = tokio::time::timeout(Duration::from_millis(100), stream.read_u8());
        left.await.is_err()
    });
    (url, stays)
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn answer(status: &str, parts: &[&[u8]], keeps: bool) -> Vec<u8> {
    let close = if keeps { "" } else { "Connection: close\r\n" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{close}\r\n"
    );
    let mut answer = head.into_bytes();
    push_chunks(&mut answer, parts);
    answer
}

fn push_chunks(answer: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts.iter().filter(|part| !part.is_empty()) {
        answer.extend(format!("{:X}\r\n", part.len()).into_bytes());
        answer.extend_from_slice(part);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
}

async fn converse(stream: &mut TcpStream, answer: &[u8]) -> String {
    let asked = read_request(stream).await.expect("the client sends a request");
    stream.write_all(answer).await.unwrap();
    asked
}

/// `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut asked = Vec::new();
    while !is_whole(&asked) {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => asked.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    Some(String::from_utf8(asked).unwrap())
}

fn is_whole(asked: &[u8]) -> bool {
    let text = String::from_utf8_lossy(asked).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.trim().parse().unwrap())
}

/// Answers requests with `answers` in turn. Yields its URL, and what was asked.
///
/// # Panics
/// If no socket can be opened.
pub async fn serve_each(answers: &[(&str, &str)]) -> (String, JoinHandle<Vec<String>>) {
    let (listener, url) = listen().await;
    let answers: Vec<Vec<u8>> =
        answers.iter().map(|(status, text)| answer(status, &[text.as_bytes()], false)).collect();
    let asked = tokio::runtime::Handle::current().spawn(async move {
        let mut asked = Vec::new();
        for answer in &answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(converse(&mut stream, answer).await);
        }
        asked
    });
    (url, asked)
}
