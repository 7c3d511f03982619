//! TLS settings of the nodes' door.
//!
//! The server asks for a client certificate and does not insist on one, since a joining host has
//! none yet. It offers `h2` and does not insist on that either: once an engine has renewed its
//! certificate it stops offering any protocol at all.

use std::sync::Arc;
use std::time::Duration;

use rcgen::KeyPair;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::identity::Identity;
use super::root::CaError;

/// The server's settings: its own chain and key, and the roots whose members it believes, also for a
/// while after their certificates have ended. What such a member may do is for others to say.
///
/// # Errors
/// A certificate cannot be parsed.
pub fn server_config(
    chain_pem: &str,
    key: &KeyPair,
    roots_pem: &str,
    grace: Duration,
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
    let verifier = Arc::new(Graceful { strict: verifier, grace });
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

/// Verifies clients as usual, and takes one whose certificate has ended of late as it was on its last
/// day.
#[derive(Debug)]
struct Graceful {
    strict: Arc<dyn ClientCertVerifier>,
    grace: Duration,
}

impl ClientCertVerifier for Graceful {
    fn offer_client_auth(&self) -> bool {
        self.strict.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.strict.verify_client_cert(end_entity, intermediates, now);
        let is_over = matches!(
            verified,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        );
        let ended = Identity::of_certificate(end_entity).map(|identity| identity.not_after);
        let ended = ended.and_then(|ended| u64::try_from(ended).ok()).filter(|_| is_over);
        match ended {
            Some(ended) if now.as_secs() <= ended.saturating_add(self.grace.as_secs()) => {
                let then = UnixTime::since_unix_epoch(Duration::from_secs(ended));
                self.strict.verify_client_cert(end_entity, intermediates, then)
            }
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
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
