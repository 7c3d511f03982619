//! Where a purser answers: a unix socket, or TCP with or without TLS.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long connecting and each wait for a part of an answer may take over TCP, where a peer can be gone
/// without a word. Longer than a command may take that makes a value.
const TCP_TIME: Duration = Duration::from_secs(120);

/// Where a purser answers.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, in clear.
    Tcp(String),
    /// `host:port`, with TLS.
    Tls(String, Arc<ClientConfig>),
}

/// A connection.
pub(super) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// The files that a client of TLS needs.
#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    /// What the server's certificate is signed by.
    pub ca: PathBuf,
    /// The client's certificate and its key, if it has one.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Endpoint {
    /// The endpoint that an address of docker's names, as in `unix:///run/purser/purser.sock`.
    ///
    /// # Errors
    /// It is of a kind that is not understood, or a file of TLS is none.
    pub(super) fn parse(host: &str, tls: Option<&TlsFiles>) -> anyhow::Result<Endpoint> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Endpoint::Unix(path.into()));
        }
        let address = match host.split_once("://") {
            Some(("tcp" | "http" | "https", address)) => address,
            // As docker reads it.
            None if !host.is_empty() => host,
            _ => bail!("{host}: purser is reached by unix:// and tcp:// only"),
        };
        let address = address.trim_end_matches('/');
        let address = match address.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => address.to_owned(),
            _ => format!("{address}:{}", if tls.is_some() { 2376 } else { 2375 }),
        };
        match tls {
            None => Ok(Endpoint::Tcp(address)),
            Some(files) => Ok(Endpoint::Tls(address, Arc::new(client_config(files)?))),
        }
    }

    /// Opens a connection. `time` is the longest wait for a part of the answer.
    ///
    /// # Errors
    /// Nobody answers there.
    pub(super) fn connect(&self, time: Option<Duration>) -> anyhow::Result<Box<dyn Stream>> {
        let nobody = || format!("nobody answers on {self}");
        match self {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(nobody)?;
                stream.set_read_timeout(time)?;
                Ok(Box::new(stream))
            }
            Endpoint::Tcp(address) => Ok(Box::new(tcp(address, time).with_context(nobody)?)),
            Endpoint::Tls(address, config) => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).context("a server's name")?;
                let stream = tcp(address, time).with_context(nobody)?;
                let connection = ClientConnection::new(config.clone(), name)?;
                Ok(Box::new(StreamOwned::new(connection, stream)))
            }
        }
    }
}

fn tcp(address: &str, time: Option<Duration>) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(time.or(Some(TCP_TIME)))?;
    stream.set_write_timeout(Some(TCP_TIME))?;
    Ok(stream)
}

fn client_config(files: &TlsFiles) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.ca)? {
        roots.add(root).with_context(|| format!("{}: a certificate", files.ca.display()))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((cert, key)) = &files.own else { return Ok(config.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{}: a private key", key.display()))?;
    Ok(config.with_client_auth_cert(certificates(cert)?, key)?)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let failed = || format!("{}: certificates", path.display());
    let found = CertificateDer::pem_file_iter(path).with_context(failed)?;
    found.collect::<Result<_, _>>().with_context(failed)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_writes_them() {
        let read = |host: &str| Endpoint::parse(host, None).map(|endpoint| endpoint.to_string());
        assert_eq!(read("unix:///run/x.sock").ok().as_deref(), Some("/run/x.sock"));
        assert_eq!(read("tcp://127.0.0.1:2000").ok().as_deref(), Some("127.0.0.1:2000"));
        assert_eq!(read("tcp://there/").ok().as_deref(), Some("there:2375"));
        assert_eq!(read("tcp://[::1]:9").ok().as_deref(), Some("[::1]:9"));
        assert_eq!(read("127.0.0.1:1").ok().as_deref(), Some("127.0.0.1:1"));
        for bad in ["ssh://there", "npipe:////./pipe/x", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
