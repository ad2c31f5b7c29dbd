//! Whom TLS trusts.

use super::error::invalid;
use ports::Result;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::sync::Arc;

/// A client that trusts the system's certificates, and those that are given. Reads the system's files.
///
/// # Errors
/// `Invalid` where what is given holds no certificate.
pub(super) fn config(ca: Option<&[u8]>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // Systems hold certificates that this library does not take; one more or less is no reason to stop.
    roots.add_parsable_certificates(system.certs);
    if let Some(pem) = ca {
        add(&mut roots, pem).map_err(|problem| {
            invalid(format!("the certificates of who may have signed the registry's: {problem}"))
        })?;
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| invalid(error.to_string()))
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> std::result::Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 { Err("there is none; give them in PEM".to_owned()) } else { Ok(()) }
}
