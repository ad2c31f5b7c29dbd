//! The client: hyper over connections that the guard has let through.

mod address;
mod connector;
mod error;
mod guard;
mod resolve;
#[cfg(test)]
mod tests;
mod tls;

use crate::{allow::AllowList, config::WebhookConfig};
use address::Address;
use async_trait::async_trait;
use bytes::Bytes;
use connector::{Guarded, Timed};
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use ports::{Result, WebhookRequest, WebhookResponse, Webhooks};
use resolve::{Resolve, System};
use std::{fmt, sync::Arc};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

/// The most bytes of an answer's head, and the most headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// What a receiver sees of us where the request does not say otherwise.
const USER_AGENT: &str = concat!("event-streaming/", env!("CARGO_PKG_VERSION"));

type HttpClient = Client<Timed<HttpsConnector<Guarded>>, Full<Bytes>>;

/// [`Webhooks`] over HTTP/1.1, and HTTP/2 where TLS agrees on it, with connections that are kept.
pub struct HttpWebhooks {
    client: HttpClient,
    allow: Arc<AllowList>,
    requests: Semaphore,
    requests_max: usize,
    response_bytes_max: usize,
}

impl HttpWebhooks {
    /// Makes the client. Reads the certificates of the system and of `ca_file`, and connects to nothing.
    ///
    /// # Errors
    /// `Invalid` where `ca_file` cannot be read or holds no certificate.
    pub fn open(config: WebhookConfig) -> Result<Self> {
        Self::with_resolver(config, Arc::new(System::new()))
    }

    fn with_resolver(config: WebhookConfig, resolver: Arc<dyn Resolve>) -> Result<Self> {
        let allow = Arc::new(config.allow);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(config.ca_file.as_deref())?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Guarded::new(allow.clone(), resolver));
        // What one answer may take at once, and no less than the protocol starts with.
        let window = config.response_bytes_max.clamp(65_535, 16 << 20) as u32;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.idle_per_host_max)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .http2_max_header_list_size(HEAD_BYTES_MAX as u32)
            .http2_initial_stream_window_size(window)
            .build(Timed { inner: connector, timeout: config.connect_timeout });
        Ok(Self {
            client,
            allow,
            requests: Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS)),
            requests_max: config.requests_max,
            response_bytes_max: config.response_bytes_max,
        })
    }

    /// One exchange, without a bound on its time.
    async fn exchange(&self, request: Request<Full<Bytes>>, host: &str) -> Result<WebhookResponse> {
        let response =
            self.client.request(request).await.map_err(|failed| error::of_request(failed, host))?;
        let (head, body) = response.into_parts();
        let bytes_max = self.response_bytes_max;
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(error::too_large(host, bytes_max));
        }
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_err(|failed| error::of_body(failed, host, bytes_max))?.to_bytes();
        let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Ok(WebhookResponse { status: head.status.as_u16(), retry_after: retry_after.map(Into::into), body })
    }
}

impl fmt::Debug for HttpWebhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpWebhooks")
            .field("allow", &self.allow)
            .field("response_bytes_max", &self.response_bytes_max)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Webhooks for HttpWebhooks {
    fn check(&self, url: &str) -> Result<()> {
        Address::check("webhooks.check", url, &self.allow)
    }

    async fn post(&self, request: WebhookRequest) -> Result<WebhookResponse> {
        let timeout = request.timeout;
        let deadline = Instant::now() + timeout;
        let (address, _) = Address::read(error::POST, &request.url)?;
        let (host, mut request) = (address.host, http_request(address.uri, request)?);
        let Ok(permit) = timeout_at(deadline, self.requests.acquire()).await else {
            return Err(error::throttled(self.requests_max));
        };
        let connection = capture_connection(&mut request);
        let answer = timeout_at(deadline, self.exchange(request, &host)).await;
        drop(permit);
        answer.unwrap_or_else(|_late| {
            let connected = connection.connection_metadata().is_some();
            Err(error::late(&host, timeout, connected))
        })
    }
}

fn http_request(uri: http::Uri, request: WebhookRequest) -> Result<Request<Full<Bytes>>> {
    let mut http = Request::new(Full::new(request.body));
    *http.method_mut() = Method::POST;
    *http.uri_mut() = uri;
    let headers = http.headers_mut();
    headers.reserve(request.headers.len() + 1);
    for (name, value) in &request.headers {
        let wrong = || error::invalid(error::POST, format!("the header {name:?} cannot be sent"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        // What is sensitive is not kept in the tables that compress an HTTP/2 connection's headers.
        value.set_sensitive(key == header::AUTHORIZATION || key == header::COOKIE);
        headers.append(key, value);
    }
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    Ok(http)
}
