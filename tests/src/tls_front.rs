//! What operators put before a service that speaks plain HTTP: TLS, and a name and a password.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Who may sign the certificate of a [`TlsFront`], and that certificate.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
    config: Arc<ServerConfig>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one, whose server is `localhost`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("a name");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let [authority_key, key] = [(); 2].map(|()| rcgen::KeyPair::generate().expect("a key"));
        let root = authority.self_signed(&authority_key).expect("a certificate");
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
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("ca.pem"), root.pem()).expect("it can be written");
        Self { dir, config: Arc::new(config) }
    }

    /// The certificate that signed the server's, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Writes a file of one line beside it, as a password is kept in.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn secret_file(&self, name: &str, line: &str) -> PathBuf {
        let path = Path::new(self.dir.path()).join(name);
        std::fs::write(&path, format!("{line}\n")).expect("it can be written");
        path
    }
}

/// Takes requests over TLS from who gives the name and the password, and hands them to a server of plain HTTP. Ends
/// with the value.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl TlsFront {
    /// Before `server`, as `http://127.0.0.1:8085…`, at a free port or at `port`.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub async fn before(
        server: &str,
        authority: &Authority,
        user: &str,
        password: &str,
        port: Option<u16>,
    ) -> Self {
        let server = server.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let wanted = format!("authorization: Basic {credentials}");
        let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).await.expect("the port is free");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(authority.config.clone());
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server, wanted) = (acceptor.clone(), server.clone(), wanted.clone());
                connections.spawn(async move {
                    // Who does not trust it, or goes away, is nobody's loss.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let _ = exchange(&mut stream, &server, &wanted).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, serving }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The same path at it as `url` has at the server.
    pub fn url(&self, url: &str) -> String {
        let path = url.trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
        format!("https://localhost:{}/{path}", self.port())
    }

    /// Closes its port and its connections.
    pub async fn close(mut self) {
        self.serving.abort();
        // It was told to end.
        let _ = (&mut self.serving).await;
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One request and its answer, after which the connection is closed.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    server: &str,
    wanted: &str,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => read.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let body = read.split_off(end + 4);
    if !head.lines().any(|line| line.eq_ignore_ascii_case(wanted)) {
        return stream
            .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    }
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let rest = length.unwrap_or(0_usize).saturating_sub(body.len()) as u64;
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    upstream.write_all(&body).await?;
    tokio::io::copy(&mut (&mut *stream).take(rest), &mut upstream).await?;
    tokio::io::copy(&mut upstream, stream).await?;
    Ok(())
}
