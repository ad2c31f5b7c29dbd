//! Whom TLS trusts.

use ports::{ErrorKind, PortError, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};

/// A client that trusts the system's certificates, and those in a file. Reads files.
///
/// # Errors
/// `Invalid` where the file cannot be read or holds no certificate.
pub(super) fn config(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // Systems hold certificates that this library does not take; one more or less is no reason to stop.
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = ca_file {
        add(&mut roots, file)
            .map_err(|problem| invalid(format!("the file of certificates {}: {problem}", file.display())))?;
    }
    if roots.is_empty() {
        tracing::warn!("the system has no certificates: no webhook can be reached by https");
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| invalid(error.to_string()))
}

fn add(roots: &mut RootCertStore, file: &Path) -> std::result::Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 { Err("holds no certificate in PEM".to_owned()) } else { Ok(()) }
}

fn invalid(detail: String) -> PortError {
    PortError::new(ErrorKind::Invalid, "webhooks.open", detail)
}
