//! TLS: whom the client trusts.

#![allow(clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use adapters_registry::{ConfluentRegistry, RegistryConfig};
use common::{Scripted, client, config, failure, ok};
use ports::{Effect, ErrorKind};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// A server of the name `localhost`, and the certificate of who signed its own, in PEM.
fn server() -> (TlsAcceptor, Vec<u8>) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("a name");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let [authority_key, key] = [(); 2].map(|()| rcgen::KeyPair::generate().expect("a key"));
    let ca = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let names = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = names.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("they belong together");
    (TlsAcceptor::from(Arc::new(config)), ca.pem().into_bytes())
}

fn settings(registry: &Scripted, host: &str, ca: Option<Vec<u8>>) -> RegistryConfig {
    RegistryConfig { ca, ..config(&[format!("https://{host}:{}", registry.address.port())]) }
}

#[tokio::test]
async fn a_registry_of_a_trusted_authority_is_asked_and_no_other() {
    let (acceptor, ca) = server();
    let registry = Scripted::tls(acceptor, |_, _| ok(json!(["a"]))).await;
    let names = client(&settings(&registry, "localhost", Some(ca.clone()))).subjects(false).await;
    assert_eq!(names.expect("names"), ["a"]);
    let (_, other) = server();
    for (host, ca) in [("localhost", None), ("localhost", Some(other)), ("127.0.0.1", Some(ca))] {
        let error = failure(client(&settings(&registry, host, ca)).subjects(false).await);
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None), "{error}");
    }
    assert_eq!(registry.requests().len(), 1, "the others were sent nothing");
}

#[tokio::test]
async fn settings_that_cannot_be_right_are_refused() {
    let urls = || vec!["https://registry:8081".to_owned()];
    for (settings, word) in [
        (RegistryConfig::default(), "0 are given"),
        (
            RegistryConfig { urls: vec!["registry".to_owned()], ..RegistryConfig::default() },
            "https://registry:8081",
        ),
        (RegistryConfig { urls: urls(), ca: Some(b"no PEM".to_vec()), ..RegistryConfig::default() }, "PEM"),
        (
            RegistryConfig { urls: urls(), username: Some("me".to_owned()), ..RegistryConfig::default() },
            "password",
        ),
    ] {
        let error = ConfluentRegistry::open(&settings).expect_err("it cannot be right");
        assert!(error.kind() == ErrorKind::Invalid && error.detail().contains(word), "{error}");
    }
}
