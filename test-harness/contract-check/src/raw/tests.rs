//! Heads, and bodies with and without chunks.

use super::RawAnswer;

#[test]
fn an_answer_is_taken_apart() {
    let text = "HTTP/1.1 404 Not Found\r\nAllow: GET\r\ncontent-length: 2\r\n\r\n{}";
    let answer = RawAnswer::parse(text).unwrap();
    let exchange = answer.exchange("PUT", "/a");
    assert_eq!((exchange.status, exchange.header("allow")), (404, Some("GET")));
    assert_eq!(exchange.body, Some("{}"));
    assert!(RawAnswer::parse("HTTP/1.1 404 Not Found\r\n").is_none());
}

#[test]
fn chunks_are_put_together() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(RawAnswer::parse(text).unwrap().body, "abc0123456789");
}
