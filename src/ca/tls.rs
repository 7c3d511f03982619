//! TLS settings of the nodes' door.
//!
//! The server asks for a client certificate and does not insist on one, since a joining host has
//! none yet. It offers `h2` and does not insist on that either: once an engine has renewed its
//! certificate it stops offering any protocol at all.

use std::sync::Arc;

use rcgen::KeyPair;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::root::CaError;

/// The server's settings: its own chain and key, and the roots whose members it believes.
///
/// # Errors
/// A certificate cannot be parsed.
pub fn server_config(
    chain_pem: &str,
    key: &KeyPair,
    roots_pem: &str,
) -> Result<Arc<ServerConfig>, CaError> {
    let provider = Arc::new(provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(roots_pem)? {
        roots.add(root).map_err(|_| CaError::Malformed("a root certificate cannot be used"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|_| CaError::Malformed("there is no root certificate"))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(certificates(chain_pem)?, key)
                .map_err(|error| rustls::Error::General(error.to_string()))
        })
        .map_err(|_| CaError::Malformed("the manager's own certificate cannot be used"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The one crypto provider of the program.
pub fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| rustls::Error::General("not a PEM text".into()))
}

impl From<rustls::Error> for CaError {
    fn from(_: rustls::Error) -> CaError {
        CaError::Malformed("a certificate cannot be parsed")
    }
}
