//! TLS of the API over TCP: who has no certificate of the given authority does not get in. Swarm's
//! own authority has no part in it.
//!
//! The settings follow their files, so that certificates are renewed without a restart. Sessions
//! are not resumed: whoever connects is checked against the authority and the clock each time.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use zeroize::Zeroizing;

use super::client::Client;
use super::hangup::Hangups;

/// How long a connection may take to agree on TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client that was refused gets to read why, and how much of what it still sends, in
/// bytes, is read so that the system does not drop the reason together with the connection.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const REFUSAL_LEN_MAX: u64 = 64 << 10;
/// How often the files are looked at. They are read once they look the same twice in a row, so that
/// a certificate is not taken without the key that is written next.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// No file of certificates is longer, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// How much of a client's name is kept, in characters; X.509 allows no more in a common name.
const NAME_LEN_MAX: usize = 64;

/// The files, in PEM, that make the API over TCP one with TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// The key of that certificate; nobody but its owner may have access to the file.
    pub key: PathBuf,
    /// The authorities whose clients are let in.
    pub ca: PathBuf,
}

/// The files make no settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("reading {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write the key.
    #[error(
        "key file {path} has mode {mode:04o}: others than its owner may use it; run chmod 600 on it \
         and consider whether the key is still a secret"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// One is longer than any such file, 1 MiB.
    #[error("{0} is too long for a file of certificates")]
    TooLong(PathBuf),
    /// One holds no certificate.
    #[error("{0} does not hold certificates in PEM")]
    NoCertificate(PathBuf),
    /// One holds no key.
    #[error("{0} does not hold a private key in PEM that is not encrypted")]
    NoKey(PathBuf),
    /// An authority cannot be used.
    #[error("{path} does not hold authorities that clients can be checked against")]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
    /// The certificate and the key do not work together.
    #[error("{path} cannot be used as the server's certificate with this key")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The settings in use, and the files that they follow.
pub(super) struct Tls {
    files: TlsFiles,
    current: watch::Sender<Arc<ServerConfig>>,
    /// How the files looked before they were read.
    loaded: Looks,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(super) fn load(files: &TlsFiles) -> Result<Tls, TlsError> {
        let loaded = files.looks();
        let current = watch::Sender::new(Arc::new(files.read()?));
        Ok(Tls { files: files.clone(), current, loaded })
    }

    /// Follows the files, for ever. What cannot be used is said once and changes nothing.
    pub(super) async fn follow(&self) {
        let mut loaded = self.loaded;
        let mut before = loaded;
        let mut hangups = Hangups::listen();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = hangups.next() => {
                    self.renew().await;
                    continue;
                }
            }
            let now = self.look().await;
            if now != loaded && now == before {
                loaded = now;
                self.renew().await;
            }
            before = now;
        }
    }

    async fn look(&self) -> Looks {
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || files.looks()).await.unwrap_or_default()
    }

    async fn renew(&self) {
        let files = self.files.clone();
        match tokio::task::spawn_blocking(move || files.read()).await {
            Ok(Ok(config)) => {
                self.current.send_replace(Arc::new(config));
                tracing::info!("the API's certificates were read again and are in use");
            }
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the API's new certificates cannot be used; it goes on with the old ones"
            ),
            Err(error) => tracing::error!(%error, "the API's certificates were not read"),
        }
    }

    /// Agrees on TLS with a client; `None` for one that is not let in.
    pub(super) async fn agree(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
    ) -> Option<(TlsStream<TcpStream>, Client)> {
        let config = self.current.borrow().clone();
        let accept = TlsAcceptor::from(config).accept(stream).into_fallible();
        match tokio::time::timeout(HANDSHAKE_TIME, accept).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let leaf = certificates.and_then(|chain| chain.first());
                let Ok(name) = leaf.map_or(Ok(String::new()), |leaf| common_name(leaf)) else {
                    tracing::warn!(%addr, "a client's certificate has a name that is none");
                    return None;
                };
                tracing::debug!(%addr, client = name, "a client connected");
                let client = Client::of_tcp(addr, Some(name));
                Some((stream, client))
            }
            Ok(Err((error, stream))) => {
                tracing::warn!(%addr, %error, "a client's TLS handshake failed");
                let _ = tokio::time::timeout(REFUSAL_TIME, part(stream)).await;
                None
            }
            Err(_) => {
                tracing::debug!(%addr, "a client's TLS handshake took too long");
                None
            }
        }
    }
}

/// Closes a connection so that the other side can read what it was told last.
async fn part(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let mut rest = stream.take(REFUSAL_LEN_MAX);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}

/// How the three files look from outside, with nothing for one that is not there: the device and
/// number of each, its length, and when its content and its mode were changed.
type Looks = [Option<(u64, u64, u64, [i64; 4])>; 3];

impl TlsFiles {
    fn looks(&self) -> Looks {
        [&self.cert, &self.key, &self.ca].map(|path| {
            let known = std::fs::metadata(path).ok()?;
            let times = [known.mtime(), known.mtime_nsec(), known.ctime(), known.ctime_nsec()];
            Some((known.dev(), known.ino(), known.len(), times))
        })
    }

    /// The settings that the files make.
    fn read(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.ca)? {
            roots.add(root).map_err(|_| TlsError::NoCertificate(self.ca.clone()))?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|source| TlsError::Authority { path: self.ca.clone(), source })?;
        let (chain, key) = (certificates(&self.cert)?, self.read_key()?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_client_cert_verifier(verifier).with_single_cert(chain, key)
            })
            .map_err(|source| TlsError::Certificate { path: self.cert.clone(), source })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = &self.key;
        let file = open(path)?;
        let known = file.metadata();
        let known = known.map_err(|source| TlsError::Io { path: path.clone(), source })?;
        let mode = known.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TlsError::Open { path: path.clone(), mode });
        }
        let text = read(file, path)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::NoKey(path.clone()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(open(path)?, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| TlsError::NoCertificate(path.to_owned()))
}

fn open(path: &Path) -> Result<File, TlsError> {
    File::open(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })
}

fn read(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let mut text = Zeroizing::new(Vec::new());
    file.take(FILE_LEN_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|source| TlsError::Io { path: path.to_owned(), source })?;
    match u64::try_from(text.len()) {
        Ok(len) if len <= FILE_LEN_MAX => Ok(text),
        _ => Err(TlsError::TooLong(path.to_owned())),
    }
}

/// A certificate by whose name nobody can be known.
#[derive(Debug, PartialEq)]
struct NoName;

/// The common name of a certificate; empty when it has none. One that is no text, is too long or has what
/// cannot stand in a log is refused: shortened or cleaned it would be somebody else's.
fn common_name(certificate: &[u8]) -> Result<String, NoName> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| NoName)?;
    let Some(name) = parsed.subject().iter_common_name().next() else { return Ok(String::new()) };
    let name = name.as_str().map_err(|_| NoName)?;
    let is_name = !name.chars().any(char::is_control) && name.chars().count() <= NAME_LEN_MAX;
    is_name.then(|| name.to_owned()).ok_or(NoName)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_name_is_taken_as_it_is_or_not_at_all() {
        let certified = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key");
            common_name(params.self_signed(&key).expect("a certificate").der())
        };
        assert_eq!(certified("ann"), Ok("ann".to_owned()));
        assert_eq!(certified(&"ä".repeat(64)), Ok("ä".repeat(64)));
        for odd in ["ann\n", "a\u{1b}[31mb", "ann\0", &"ä".repeat(65)] {
            assert_eq!(certified(odd), Err(NoName), "{odd:?}");
        }
        assert_eq!(common_name(b"no certificate"), Err(NoName));
    }
}
