//! Who may speak to a daemon: known host names, no foreign web page, JSON bodies, a key if there are
//! keys.
//!
//! A service on loopback is reachable from every web page that its user opens. The `Host` check stops
//! a rebound DNS name, the `Origin` check a cross-site request, and the content type keeps a form
//! from passing as JSON (<https://fetch.spec.whatwg.org/#simple-header>).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Decides about a request's head before anything else looks at it.
#[derive(Debug, Clone)]
pub struct Guard {
    hosts: BTreeSet<String>,
    /// Bound to all addresses: a literal address of any kind names this machine.
    any_literal: bool,
    credentials: Credentials,
    open_paths: BTreeSet<String>,
}

#[derive(Clone)]
pub enum Credentials {
    /// Whoever reaches the socket may call.
    Open,
    /// One of these keys, each given as a name for logs and its SHA-256.
    Digests(Vec<(String, [u8; 32])>),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => f.write_str("Open"),
            Self::Digests(keys) => write!(f, "Digests({} keys)", keys.len()),
        }
    }
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// No key was needed.
    Anonymous,
    /// The key with this name.
    Key { name: String },
}

/// Why a request is refused; `Display` is fit for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "host `{found}` is not one of this service's names; add it to `allowed_hosts` to allow it"
    )]
    ForeignHost { found: String },
    #[error("requests from web pages of `{found}` are refused")]
    ForeignOrigin { found: String },
    #[error("body has content type `{found}`, expected `application/json`")]
    UnsupportedMediaType { found: String },
    #[error("a key is needed: send `Authorization: Bearer KEY` or `X-API-Key: KEY`")]
    Unauthenticated,
}

impl Guard {
    /// Loopback's names, the addresses in `bound` and `allowed_hosts` may stand in `Host`.
    #[must_use]
    pub fn new(bound: &[SocketAddr], allowed_hosts: &[String], credentials: Credentials) -> Self {
        let mut hosts: BTreeSet<String> =
            ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        hosts.extend(bound.iter().map(|it| it.ip().to_string()));
        hosts.extend(allowed_hosts.iter().map(|it| it.to_ascii_lowercase()));
        let any_literal = bound.iter().any(|it| it.ip().is_unspecified());
        Self { hosts, any_literal, credentials, open_paths: BTreeSet::new() }
    }

    /// Paths that need no key (the other checks hold for them too).
    #[must_use]
    pub fn with_open_paths(mut self, paths: &[&str]) -> Self {
        self.open_paths.extend(paths.iter().map(|it| (*it).to_owned()));
        self
    }

    /// # Errors
    /// The first check that fails, in the order host, origin, content type, key.
    pub fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        let host = self.check_host(uri, headers)?;
        check_origin(host, headers)?;
        check_content_type(method, headers)?;
        self.authenticate(uri, headers)
    }

    /// Returns the `Host` text, port included.
    fn check_host<'a>(&self, uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        let found = match headers.get(HOST) {
            Some(value) => value.to_str().unwrap_or("not text"),
            None => uri.authority().map_or("none", |it| it.as_str()),
        };
        let name = host_name(found);
        let literal = self.any_literal && name.parse::<IpAddr>().is_ok();
        // An absolute request target overrides Host (RFC 9112, 3.2.2), so it must pass as well.
        let target = uri.host().map_or(name, |it| it.trim_matches(['[', ']']));
        let known = |it: &str| self.hosts.contains(it.to_ascii_lowercase().as_str());
        if (known(name) || literal) && (target == name || known(target)) {
            Ok(found)
        } else {
            Err(Refusal::ForeignHost { found: found.to_owned() })
        }
    }

    fn authenticate(&self, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let keys = match &self.credentials {
            Credentials::Open => return Ok(Caller::Anonymous),
            Credentials::Digests(_) if self.open_paths.contains(uri.path()) => {
                return Ok(Caller::Anonymous);
            }
            Credentials::Digests(keys) => keys,
        };
        let digest: [u8; 32] =
            Sha256::digest(presented(headers).ok_or(Refusal::Unauthenticated)?).into();
        // Every key is compared, so that the time taken does not tell which one was near.
        let mut caller = None;
        for (name, known) in keys {
            if bool::from(known.ct_eq(&digest)) {
                caller = Some(Caller::Key { name: name.clone() });
            }
        }
        caller.ok_or(Refusal::Unauthenticated)
    }
}

/// `[::1]:80`, `localhost:80` and `localhost` without port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn check_origin(host: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let found = origin.to_str().unwrap_or("not text");
    let same =
        found.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    if same { Ok(()) } else { Err(Refusal::ForeignOrigin { found: found.to_owned() }) }
}

fn check_content_type(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let length = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    let has_body = length.is_some_and(|it| it != "0") || headers.contains_key(TRANSFER_ENCODING);
    if !has_body || method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let found = headers.get(CONTENT_TYPE).map_or("none", |it| it.to_str().unwrap_or("not text"));
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Refusal::UnsupportedMediaType { found: found.to_owned() })
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|it| {
        let (scheme, token) = it.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
    });
    bearer.or_else(|| headers.get("x-api-key").map(http::HeaderValue::as_bytes))
}
