//! Requests: made at one of the addresses, within a time, and again.

use super::{
    error::{About, Problem, invalid},
    tls,
};
use crate::config::RegistryConfig;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ports::{Asked, ErrorKind, PortError, RegistryError, Result};
use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use url::Url;

/// The most addresses.
const URLS_MAX: usize = 16;
/// The most requests at once; further ones wait, within their time.
const REQUESTS_MAX: usize = 64;
/// The longest that a registry's `Retry-After` is waited for; who asked is told of a longer one.
const AFTER_MAX: Duration = Duration::from_secs(2);
/// The longest delay between attempts.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// The most bytes of an answer's head, and the most headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// Connections that are kept, and for how long.
const IDLE_MAX: usize = 16;
const IDLE_FOR: Duration = Duration::from_secs(30);

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json;q=0.9";
const USER_AGENT: &str = concat!("event-streaming/", env!("CARGO_PKG_VERSION"));

/// What is left as it is in a path and in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path below a registry's address, with its query.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// Segments as they are.
    pub(super) fn new(segments: &[&str]) -> Self {
        let mut text = String::with_capacity(64);
        for segment in segments {
            text.push('/');
            text.extend(utf8_percent_encode(segment, PLAIN));
        }
        Self { text, has_query: false }
    }

    /// With a parameter.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        self.text.extend(utf8_percent_encode(value, PLAIN));
        self
    }

    /// With a parameter that is said where it is true.
    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        if value { self.with(name, "true") } else { self }
    }
}

/// A request, wherever it is made.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) operation: &'static str,
    pub(super) path: Path,
    /// What is posted; else it is a GET.
    pub(super) body: Option<Bytes>,
    /// Whether it may have an effect.
    pub(super) changes: bool,
}

/// One of the registry's addresses.
#[derive(Debug)]
struct Address {
    /// Without a slash at its end.
    base: String,
    /// For messages.
    host: String,
}

/// Makes requests.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    addresses: Vec<Address>,
    /// The address that is asked first: one that answered.
    preferred: AtomicUsize,
    authorization: Option<HeaderValue>,
    requests: Semaphore,
    config: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    request_timeout: Duration,
    attempts: u32,
    retry_delay: Duration,
    response_bytes_max: usize,
}

impl Http {
    pub(super) fn open(config: &RegistryConfig) -> Result<Self> {
        let addresses: Vec<Address> = config.urls.iter().map(|url| address(url)).collect::<Result<_>>()?;
        if addresses.is_empty() || addresses.len() > URLS_MAX {
            let count = addresses.len();
            return Err(invalid(format!(
                "a registry has from 1 to {URLS_MAX} addresses, and {count} are given"
            )));
        }
        let urls = addresses.len() as u32;
        let authorization = authorization(config)?;
        let is_clear = |address: &Address| address.base.starts_with("http://");
        if let Some(clear) = addresses.iter().find(|it| is_clear(it))
            && authorization.is_some()
        {
            tracing::warn!(host = clear.host, "the schema registry's password is sent without TLS");
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(config.ca.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(connector);
        Ok(Self {
            client,
            addresses,
            preferred: AtomicUsize::new(0),
            authorization,
            requests: Semaphore::new(REQUESTS_MAX),
            config: Limits {
                request_timeout: config.request_timeout,
                // Each address has its turn.
                attempts: config.attempts.max(urls),
                retry_delay: config.retry_delay,
                response_bytes_max: config.response_bytes_max,
            },
        })
    }

    /// The addresses.
    pub(super) fn urls(&self) -> Vec<String> {
        self.addresses.iter().map(|address| address.base.clone()).collect()
    }

    /// The host that errors about an answer name.
    pub(super) fn host(&self) -> &str {
        self.addresses.get(self.preferred.load(Relaxed)).map_or("", |address| &address.host)
    }

    /// The body of the answer, of one that is good.
    pub(super) async fn ask(&self, ask: &Ask) -> Asked<Bytes> {
        let mut attempt = 1;
        loop {
            let at = self.preferred.load(Relaxed);
            // The number is always one of theirs.
            let Some(address) = self.addresses.get(at) else { return Err(lost(ask).into()) };
            let problem = match self.attempt(address, ask).await {
                Ok(body) => return Ok(body),
                Err(problem) => problem,
            };
            if !problem.again {
                return Err(problem.error);
            }
            // The next one, unless another request has found that out already.
            let next = (at + 1) % self.addresses.len();
            let _ = self.preferred.compare_exchange(at, next, Relaxed, Relaxed);
            let after = problem.after.unwrap_or_default();
            let is_hanging = problem.late && attempt as usize >= self.addresses.len();
            if attempt >= self.config.attempts || after > AFTER_MAX || is_hanging {
                return Err(problem.error);
            }
            // Another address is tried at once, and then all of them again.
            if (attempt as usize).is_multiple_of(self.addresses.len()) || !after.is_zero() {
                sleep(self.delay(attempt).max(after)).await;
            }
            tracing::debug!(host = address.host, operation = ask.operation, attempt, error = %problem.error, "asking again");
            attempt += 1;
        }
    }

    /// How long to wait after an attempt, from 1 on.
    pub(super) fn delay(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.saturating_sub(1).min(20)).unwrap_or(u32::MAX);
        let longest = self.config.retry_delay.saturating_mul(factor).min(DELAY_MAX);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// How often a request is made.
    pub(super) fn attempts(&self) -> u32 {
        self.config.attempts
    }

    async fn attempt(&self, address: &Address, ask: &Ask) -> std::result::Result<Bytes, Problem> {
        let Limits { request_timeout, response_bytes_max, .. } = self.config;
        let about = About { operation: ask.operation, host: &address.host, changes: ask.changes };
        let mut is_sent = false;
        let exchange = async {
            // It is never closed.
            let _permit = self.requests.acquire().await.ok();
            is_sent = true;
            let request = self.request(address, ask)?;
            let response = self.client.request(request).await.map_err(|error| about.of_request(error))?;
            let (head, body) = response.into_parts();
            if body.size_hint().lower() > response_bytes_max as u64 {
                return Err(about.too_large(response_bytes_max));
            }
            let body = Limited::new(body, response_bytes_max).collect().await;
            let body = body.map_err(|error| about.of_body(error, response_bytes_max))?.to_bytes();
            if head.status.is_success() {
                return Ok(body);
            }
            Err(about.of_status(head.status, &body, retry_after(&head.headers)))
        };
        let answer = timeout(request_timeout, exchange).await;
        match answer {
            Ok(answer) => answer,
            Err(_late) if is_sent => Err(about.late(request_timeout)),
            Err(_late) => Err(about.crowded(REQUESTS_MAX)),
        }
    }

    fn request(&self, address: &Address, ask: &Ask) -> std::result::Result<Request<Full<Bytes>>, Problem> {
        let wrong = |error: http::uri::InvalidUri| Problem {
            error: RegistryError::Failed(PortError::new(
                ErrorKind::Invalid,
                ask.operation,
                format!("the name cannot be asked for: {error}"),
            )),
            again: false,
            late: false,
            after: None,
        };
        let uri: Uri = format!("{}{}", address.base, ask.path.text).parse().map_err(wrong)?;
        let mut request = Request::new(Full::new(ask.body.clone().unwrap_or_default()));
        *request.method_mut() = if ask.body.is_some() { Method::POST } else { Method::GET };
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if ask.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn lost(ask: &Ask) -> PortError {
    PortError::new(ErrorKind::Unexpected, ask.operation, "no address is left")
}

/// Reads an address. What is wrong with it is told without it, as it may hold a password.
fn address(text: &str) -> Result<Address> {
    let text = text.trim();
    let wrong = |what: &str| {
        invalid(format!("an address of the registry {what}; it must be as `https://registry:8081`"))
    };
    let url = Url::parse(text).map_err(|error| wrong(&format!("is none: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("is not of the scheme `https` or `http`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or a password, which have settings of their own"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("holds a query or a fragment"));
    }
    let host =
        url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?.to_owned();
    if url.port() == Some(0) {
        return Err(wrong("names the port 0"));
    }
    Ok(Address { base: url.as_str().trim_end_matches('/').to_owned(), host })
}

fn authorization(config: &RegistryConfig) -> Result<Option<HeaderValue>> {
    let (user, password) = match (&config.username, &config.password) {
        (None, None) => return Ok(None),
        (Some(user), Some(password)) => (user, password),
        (Some(_), None) => return Err(invalid("a username needs a password")),
        (None, Some(_)) => return Err(invalid("a password needs a username")),
    };
    // RFC 7617: what is before the first colon is the user.
    if user.contains(':') {
        return Err(invalid("the username must have no colon"));
    }
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            .map_err(|_| invalid("the username or the password cannot be sent"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// How long the registry wants to be left alone, where it says so in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_so_that_they_stay_one_segment() {
        let path = Path::new(&["subjects", ":.eu:a/b c?", "versions"]).flag("deleted", true).flag("x", false);
        assert_eq!(
            path.with("subject", ":.eu:").text,
            "/subjects/%3A.eu%3Aa%2Fb%20c%3F/versions?deleted=true&subject=%3A.eu%3A"
        );
    }

    #[test]
    fn an_address_is_read_and_what_is_none_is_refused_without_being_shown() {
        for (text, base) in [
            ("http://registry:8081", "http://registry:8081"),
            (
                " https://host/event-streaming/schema-registry/ ",
                "https://host/event-streaming/schema-registry",
            ),
            ("http://[::1]:8081", "http://[::1]:8081"),
        ] {
            assert_eq!(address(text).unwrap().base, base);
        }
        for (text, word) in [
            ("", "is none"),
            ("registry:8081", "scheme"),
            ("https://me:hunter2@registry", "settings of their own"),
            ("https://registry/?key=hunter2", "query"),
            ("https://registry:0", "port 0"),
        ] {
            let error = address(text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn who_asks_needs_a_name_and_a_password() {
        let config = |user: Option<&str>, password: Option<&str>| RegistryConfig {
            username: user.map(str::to_owned),
            password: password.map(str::to_owned),
            ..RegistryConfig::default()
        };
        let value = authorization(&config(Some("me"), Some("a:b"))).unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic bWU6YTpi");
        assert!(value.is_sensitive());
        for (user, password, word) in [
            (Some("me"), None, "needs a password"),
            (None, Some("x"), "needs a username"),
            (Some("a:b"), Some("x"), "colon"),
        ] {
            assert!(authorization(&config(user, password)).unwrap_err().to_string().contains(word));
        }
    }
}
