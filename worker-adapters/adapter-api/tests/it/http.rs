//! The client against sockets that behave well and badly.

use std::time::Duration;

use adapter_api::{EngineError, EngineHttp, collect};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What the far side does with a connection on which a request head has come.
#[derive(Clone, Copy)]
enum Then {
    /// Answers `ok`, and goes on.
    Answer,
    /// Answers `ok`, and closes without having said so.
    AnswerAndClose,
    /// Answers with more than a call takes.
    AnswerTooMuch,
    /// Answers half of what it promised.
    AnswerHalf,
    /// The same, and stays.
    AnswerHalfAndStay,
    /// Answers a good chunk and, in the same write, one that is none.
    AnswerBadChunk,
    /// An interim answer, then `ok`.
    AnswerTwice,
    /// Answers `ok` and more than it said.
    AnswerAndChatter,
    Silence,
    Close,
}

const CLOSED: &str = "closed";

/// A server, and what it saw: heads of requests, and ends of connections.
async fn serve(then: Then) -> (EngineHttp, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let (heads, seen) = mpsc::channel(1000);
    let runtime = tokio::runtime::Handle::current();
    runtime.clone().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            runtime.spawn(converse(stream, then, heads.clone()));
        }
    });
    (EngineHttp::new(&base, Some("s-e-c-r-e-t")), seen)
}

async fn converse(mut stream: TcpStream, then: Then, heads: mpsc::Sender<String>) {
    while let Some(head) = read_head(&mut stream).await {
        heads.send(head).await.unwrap();
        let answer: &[u8] = match then {
            Then::Answer | Then::AnswerAndClose => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
            Then::AnswerTooMuch => b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n",
            Then::AnswerHalf | Then::AnswerHalfAndStay => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
            }
            Then::AnswerBadChunk => {
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n"
            }
            Then::AnswerTwice => {
                b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
            Then::AnswerAndChatter => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, right?",
            Then::Silence => {
                // Ends when the client goes.
                let _ = stream.read_u8().await;
                heads.send(CLOSED.to_owned()).await.unwrap();
                return;
            }
            Then::Close => return,
        };
        stream.write_all(answer).await.unwrap();
        match then {
            Then::AnswerTooMuch => drop(stream.write_all(&vec![b' '; 9_000_000]).await),
            Then::AnswerAndClose | Then::AnswerHalf => return,
            Then::Answer
            | Then::AnswerHalfAndStay
            | Then::AnswerBadChunk
            | Then::AnswerTwice
            | Then::AnswerAndChatter
            | Then::Silence
            | Then::Close => {}
        }
    }
    // Nobody may be left to be told.
    let _ = heads.send(CLOSED.to_owned()).await;
}

/// `None` at the end of the connection, which includes a client that closes its sending side.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn get(http: &EngineHttp) -> Result<(StatusCode, String), EngineError> {
    let (status, body) = http.call(Method::GET, "/x", None).await?;
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn calls_share_a_connection_and_carry_the_key() {
    let (http, mut heads) = serve(Then::Answer).await;
    for _ in 0..3 {
        assert_eq!(get(&http).await, Ok((StatusCode::OK, "ok".to_owned())));
        let head = heads.recv().await.unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer s-e-c-r-e-t\r\n"), "{head}");
        assert!(!head.contains("x-conversation-id"), "{head}");
        // An end would have come before the next head.
        assert!(heads.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_connection_that_was_closed_meanwhile_is_no_error() {
    let (http, mut heads) = serve(Then::AnswerAndClose).await;
    for round in 0..200 {
        assert!(get(&http).await.is_ok(), "{round}");
        while heads.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn a_connection_that_always_breaks_is_tried_three_times() {
    let (http, mut heads) = serve(Then::Close).await;
    assert!(matches!(get(&http).await, Err(EngineError::Reset { .. })));
    let mut seen = 0;
    while heads.try_recv().is_ok() {
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_never_ends_is_an_error() {
    let (http, _heads) = serve(Then::AnswerHalf).await;
    assert!(matches!(get(&http).await, Err(EngineError::Reset { .. })));
    let (http, _heads) = serve(Then::AnswerTooMuch).await;
    assert!(matches!(get(&http).await, Err(EngineError::Protocol { .. })));
}

#[tokio::test]
async fn what_came_before_a_broken_chunk_is_not_lost() {
    let (http, _heads) = serve(Then::AnswerBadChunk).await;
    let (_, mut body) = http.stream(Method::GET, "/x", None, None).await.unwrap();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "ok");
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let (http, _heads) = serve(Then::AnswerTwice).await;
    for _ in 0..2 {
        assert_eq!(get(&http).await, Ok((StatusCode::OK, "ok".to_owned())));
    }
}

#[tokio::test]
async fn a_connection_with_bytes_behind_the_answer_is_not_used_again() {
    let (http, mut heads) = serve(Then::AnswerAndChatter).await;
    for _ in 0..2 {
        assert_eq!(get(&http).await, Ok((StatusCode::OK, "ok".to_owned())));
        assert!(heads.recv().await.unwrap().starts_with("GET"));
        assert_eq!(heads.recv().await.as_deref(), Some(CLOSED));
    }
}

#[tokio::test]
async fn a_connection_that_stays_idle_is_closed_by_us_first() {
    let (http, mut heads) = serve(Then::Answer).await;
    assert!(get(&http).await.is_ok());
    assert!(heads.recv().await.unwrap().starts_with("GET"));
    tokio::time::pause();
    // llama.cpp closes after 5 s.
    let closed = tokio::time::timeout(Duration::from_millis(4_500), heads.recv()).await;
    assert_eq!(closed.unwrap().as_deref(), Some(CLOSED));
    drop(http);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let (http, _heads) = serve(Then::Silence).await;
    assert_eq!(get(&http).await, Err(EngineError::Timeout { limit_ms: 10_000 }));
}

#[tokio::test]
async fn a_body_without_end_is_given_up() {
    let (http, _heads) = serve(Then::AnswerHalfAndStay).await;
    let (status, body) = http.stream(Method::POST, "/x", Some("{}".into()), None).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    tokio::time::pause();
    let waited = tokio::time::timeout(Duration::from_secs(60), collect(body)).await;
    assert_eq!(waited.unwrap(), Err(EngineError::Timeout { limit_ms: 10_000 }));
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = get(&EngineHttp::new(&base, None)).await;
    assert!(matches!(refused, Err(EngineError::Unreachable { .. })), "{refused:?}");
    let nonsense = get(&EngineHttp::new("http://a b", None)).await;
    assert!(matches!(nonsense, Err(EngineError::Unreachable { .. })), "{nonsense:?}");
}

#[tokio::test]
async fn dropping_a_request_closes_its_connection() {
    let (http, mut heads) = serve(Then::Silence).await;
    tokio::select! {
        _ = get(&http) => unreachable!("the server never answers"),
        head = heads.recv() => assert!(head.unwrap().starts_with("GET /x")),
    }
    let closed = tokio::time::timeout(Duration::from_secs(10), heads.recv()).await;
    assert_eq!(closed.unwrap().as_deref(), Some(CLOSED));
}

// OC-ADAPT-5083
#[tokio::test]
async fn the_key_is_never_shown() {
    let (http, _heads) = serve(Then::Close).await;
    let error = get(&http).await.unwrap_err();
    let shown = format!("{http:?} {http:#?} {error} {error:?}");
    assert!(!shown.contains("s-e-c-r-e-t"), "{shown}");
}
