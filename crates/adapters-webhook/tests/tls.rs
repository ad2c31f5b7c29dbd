//! TLS: whom the client trusts, and HTTP/2.
//!
//! `vectors/server.pem` is a certificate for `localhost` by `vectors/ca.pem`; they serve these tests alone.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_webhook::{HttpWebhooks, WebhookConfig};
use bytes::Bytes;
use common::{Server, client, config, read_request, request, told};
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ports::{Effect, ErrorKind, Webhooks};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{convert::Infallible, io::Write as _, path::PathBuf, sync::Arc};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

fn vector(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn acceptor(protocol: &str) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(vector("server.pem")).expect("a file");
    let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(vector("server.key.pem")).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("they belong together");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn https_server() -> Server {
    let acceptor = acceptor("http/1.1");
    Server::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // A client that does not trust us leaves.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while read_request(&mut stream).await.is_some() {
                let _ = stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").await;
            }
        }
    })
    .await
}

fn trusting() -> WebhookConfig {
    WebhookConfig { ca_file: Some(vector("ca.pem")), ..config() }
}

fn url(server: &Server, host: &str) -> String {
    format!("https://{host}:{}/hook", server.address.port())
}

#[tokio::test]
async fn a_server_of_a_trusted_authority_is_reached() {
    let server = https_server().await;
    let client = client(trusting());
    for _ in 0..2 {
        assert_eq!(client.post(request(url(&server, "localhost"))).await.expect("an answer").status, 204);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_sent_nothing() {
    let server = https_server().await;
    let error = client(config()).post(request(url(&server, "localhost"))).await.expect_err("not trusted");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
    // The certificate is for another name.
    let error = client(trusting()).post(request(url(&server, "127.0.0.1"))).await.expect_err("another name");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_sent_nothing() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n", true).await;
    let silent = Server::new(|_stream| std::future::pending()).await;
    let error = client(trusting()).post(request(url(&server, "localhost"))).await.expect_err("no TLS");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
    let error = client(trusting()).post(common::short(url(&silent, "localhost"))).await.expect_err("no TLS");
    assert_eq!(told(&error), (ErrorKind::Unavailable, Effect::None), "{error}");
}

#[tokio::test]
async fn requests_share_a_connection_where_the_server_speaks_http_2() {
    let acceptor = acceptor("h2");
    let server = Server::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.expect("it trusts us");
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                Ok::<_, Infallible>(Response::new(Full::new(body)))
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // It ends when the client does.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let client = client(trusting());
    let post = || client.post(request(url(&server, "localhost")));
    assert_eq!(post().await.expect("an answer").body, Bytes::from("hello"));
    let answers = tokio::join!(post(), post(), post());
    for answer in [answers.0, answers.1, answers.2] {
        assert_eq!(answer.expect("an answer").body, Bytes::from("hello"));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_file_without_certificates_is_refused_by_name() {
    let mut empty = tempfile::NamedTempFile::new().expect("a file");
    empty.write_all(b"no certificate").expect("it can be written");
    for file in [empty.path().to_owned(), PathBuf::from("/nowhere/ca.pem")] {
        let config = WebhookConfig { ca_file: Some(file.clone()), ..WebhookConfig::default() };
        let error = HttpWebhooks::open(config).expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.detail().contains(&file.display().to_string()), "{error}");
    }
}
