//! Guards and binding, seen from outside.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Uri};
use sha2::{Digest, Sha256};

use crate::{BindError, Caller, Credentials, Guard, Refusal, bind, correlation_id};

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

fn check(guard: &Guard, method: Method, pairs: &[(HeaderName, &str)]) -> Result<Caller, Refusal> {
    guard.check(&method, &Uri::from_static("/v1/tasks"), &headers(pairs))
}

fn open() -> Guard {
    Guard::new(&["127.0.0.1:8420".parse().unwrap()], &["gpu.lan".into()], Credentials::Open)
}

// OC-CTRL-2083
#[test]
fn only_known_host_names_pass() {
    for host in ["localhost:8420", "127.0.0.1", "[::1]:8420", "GPU.lan:80"] {
        assert_eq!(check(&open(), Method::GET, &[(HOST, host)]), Ok(Caller::Anonymous), "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", ""] {
        let refused = check(&open(), Method::GET, &[(HOST, host)]);
        assert_eq!(refused, Err(Refusal::ForeignHost { found: host.into() }));
    }
    assert!(check(&open(), Method::GET, &[]).is_err());
}

// OC-CTRL-2083
#[test]
fn a_rebound_name_in_an_absolute_target_is_refused() {
    let uri = Uri::from_static("http://evil.example/v1/tasks");
    assert!(open().check(&Method::GET, &uri, &headers(&[(HOST, "localhost")])).is_err());
}

// OC-CTRL-2083
#[test]
fn a_foreign_origin_is_refused_and_our_own_is_not() {
    let ask = |origin| check(&open(), Method::GET, &[(HOST, "localhost:8420"), (ORIGIN, origin)]);
    assert!(ask("http://localhost:8420").is_ok());
    for origin in ["http://localhost:3000", "https://evil.example", "null"] {
        assert_eq!(ask(origin), Err(Refusal::ForeignOrigin { found: origin.into() }));
    }
}

// OC-CTRL-2083
#[test]
fn a_body_must_be_json() {
    let ask = |kind| {
        let head = [(HOST, "localhost"), (CONTENT_LENGTH, "2"), (CONTENT_TYPE, kind)];
        check(&open(), Method::POST, &head)
    };
    assert!(ask("application/json; charset=utf-8").is_ok());
    assert!(ask("text/plain").is_err());
    assert!(check(&open(), Method::POST, &[(HOST, "localhost"), (CONTENT_LENGTH, "2")]).is_err());
    assert!(check(&open(), Method::POST, &[(HOST, "localhost"), (CONTENT_LENGTH, "0")]).is_ok());
}

// OC-CTRL-2040
#[test]
fn a_key_opens_what_no_key_does_not() {
    let digest = Sha256::digest(b"secret").into();
    let keys = Credentials::Digests(vec![("me".into(), digest)]);
    assert!(!format!("{keys:?}").contains("me"));
    let guard = Guard::new(&[], &[], keys).with_open_paths(&["/healthz"]);
    let host = (HOST, "localhost");
    assert_eq!(
        check(&guard, Method::GET, std::slice::from_ref(&host)),
        Err(Refusal::Unauthenticated)
    );
    let wrong = [host.clone(), (AUTHORIZATION, "Bearer secreT")];
    assert_eq!(check(&guard, Method::GET, &wrong), Err(Refusal::Unauthenticated));
    let me = Ok(Caller::Key { name: "me".into() });
    assert_eq!(check(&guard, Method::GET, &[host.clone(), (AUTHORIZATION, "bearer secret")]), me);
    let header = HeaderName::from_static("x-api-key");
    assert_eq!(check(&guard, Method::GET, &[host.clone(), (header, "secret")]), me);
    let open = guard.check(&Method::GET, &Uri::from_static("/healthz"), &headers(&[host]));
    assert_eq!(open, Ok(Caller::Anonymous));
}

// OC-CTRL-2052
#[test]
fn a_correlation_id_is_kept_only_if_it_is_harmless() {
    let name = crate::CORRELATION_HEADER;
    assert_eq!(correlation_id(&headers(&[(name.clone(), "a.B-c_9")])), "a.B-c_9");
    for hostile in ["", "a b", &"x".repeat(65), "a\"b"] {
        let id = correlation_id(&headers(&[(name.clone(), hostile)]));
        assert_eq!(id.len(), 16, "{hostile:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_fix() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let error = bind(&[(address, true)]).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    assert!(error.to_string().contains(&format!("sport = :{}", address.port())), "{error}");
}

#[tokio::test]
async fn an_address_that_this_machine_lacks_is_left_out_only_if_it_may_be() {
    let missing = "192.0.2.1:0".parse().unwrap();
    let here = "127.0.0.1:0".parse().unwrap();
    assert_eq!(bind(&[(here, true), (missing, false)]).await.unwrap().len(), 1);
    assert!(bind(&[(missing, true)]).await.is_err());
}
