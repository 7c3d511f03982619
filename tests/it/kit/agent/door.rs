//! Connections to the nodes' door, as engines make them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls::{DEFAULT_VERSIONS, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// A certificate chain, PEM, and its key, PKCS#8.
#[derive(Clone)]
pub struct Credentials {
    pub chain: String,
    pub key: Vec<u8>,
}

/// How to connect.
#[derive(Clone)]
pub struct Dial {
    pub addr: SocketAddr,
    /// The root and the name that the server is checked against; without it any server will do, and
    /// no name is sent.
    pub verify: Option<(String, &'static str)>,
    pub credentials: Option<Credentials>,
    /// What is offered as the protocol within TLS.
    pub alpn: &'static [&'static [u8]],
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// Every byte that the server says inside of TLS is added here.
    pub heard: Heard,
}

/// Bytes that were heard.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>, Arc<AtomicBool>);

impl Heard {
    /// True when these bytes were among them.
    pub fn has(&self, wanted: &[u8]) -> bool {
        let heard = self.0.lock().expect("bytes are never left half added");
        heard.windows(wanted.len()).any(|window| window == wanted)
    }

    /// True once a connection is over.
    pub fn is_closed(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

/// What was agreed on in a handshake.
pub struct Agreed {
    pub alpn: Option<Vec<u8>>,
    pub version: Option<rustls::ProtocolVersion>,
    /// The server's own certificate.
    pub server: Vec<u8>,
}

impl Dial {
    /// As an engine fetches the root: no name, no certificate, no check.
    pub fn bare(addr: SocketAddr) -> Dial {
        Dial {
            addr,
            verify: None,
            credentials: None,
            alpn: &[b"h2"],
            versions: DEFAULT_VERSIONS,
            heard: Heard::default(),
        }
    }

    /// Connects. Trouble with the server shows here, or, in TLS 1.3, at the first call.
    pub async fn channel(&self) -> io::Result<Channel> {
        let dial = self.clone();
        let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
            let dial = dial.clone();
            async move {
                let inner = dial.tls().await?;
                Ok::<_, io::Error>(TokioIo::new(Tap { inner, heard: dial.heard.clone() }))
            }
        });
        let endpoint = Endpoint::from_static("http://manager");
        endpoint.connect_with_connector(connector).await.map_err(io::Error::other)
    }

    /// Shakes hands and says what was agreed on.
    pub async fn agree(&self) -> io::Result<Agreed> {
        let stream = self.tls().await?;
        let connection = stream.get_ref().1;
        let server = connection.peer_certificates().and_then(|chain| chain.first());
        Ok(Agreed {
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            version: connection.protocol_version(),
            server: server.map(|leaf| leaf.to_vec()).unwrap_or_default(),
        })
    }

    async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let name = self.verify.as_ref().map_or("unknown", |(_, name)| name);
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(self.config()?)).connect(name, stream).await
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .map_err(io::Error::other)?;
        let builder = match &self.verify {
            Some((root, _)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(root) {
                    roots.add(root).map_err(io::Error::other)?;
                }
                builder.with_root_certificates(roots)
            }
            None => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            }
        };
        let mut config = match &self.credentials {
            Some(Credentials { chain, key }) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                let chain = certificates(chain).collect();
                builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.verify.is_some();
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

fn certificates(pem: &str) -> impl Iterator<Item = CertificateDer<'static>> + '_ {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.expect("a PEM chain"))
}

/// Takes any server's certificate: the digest in the join token is the check.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Keeps what is read, and notes when the connection is dropped, which follows the server's goodbye.
struct Tap<S> {
    inner: S,
    heard: Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let mut heard = self.heard.0.lock().expect("bytes are never left half added");
        heard.extend_from_slice(&buf.filled()[before..]);
        drop(heard);
        polled
    }
}

impl<S> Drop for Tap<S> {
    fn drop(&mut self) {
        self.heard.1.store(true, Ordering::Relaxed);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
