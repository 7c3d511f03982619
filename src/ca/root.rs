//! The root certificate and its key.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};

use super::issue::to_offset;
use crate::domain::node::TlsInfo;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::seal::secret::SecretBytes;

/// Subject of every root.
pub const ROOT_NAME: &str = "swarm-ca";
/// Life of a root: 20 years.
const ROOT_LIFE: Nanoseconds = 20 * 365 * 24 * 3600 * 1_000_000_000;
/// How far certificates reach back, for hosts whose clocks are behind: 1 hour.
pub(super) const BACKDATE: Nanoseconds = 3600 * 1_000_000_000;

/// Something about a certificate or key does not work.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The library that makes certificates refuses.
    #[error("making a certificate")]
    Make(#[from] rcgen::Error),
    /// A certificate, request or key cannot be understood.
    #[error("{0}")]
    Malformed(&'static str),
}

/// A root that can sign.
pub struct Root {
    /// The certificate, PEM with LF line ends.
    pem: String,
    key: KeyPair,
}

impl Root {
    /// Makes a new root: P-256, self-signed, valid from an hour ago for 20 years.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn make(now: Timestamp) -> Result<Root, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, ROOT_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = to_offset(now.plus(-BACKDATE));
        params.not_after = to_offset(now.plus(ROOT_LIFE));
        let pem = params.self_signed(&key)?.pem().replace("\r\n", "\n");
        Ok(Root { pem, key })
    }

    /// Takes a root from what the store keeps: its certificate, and its key as PKCS#8 DER.
    ///
    /// # Errors
    /// One of the two cannot be understood, or they do not belong together.
    pub fn load(pem: &str, key: &SecretBytes) -> Result<Root, CaError> {
        // A door for key bytes: into the signer's own key type, which lives as long as the root.
        let key = KeyPair::try_from(key.expose())?;
        let root = Root { pem: pem.to_owned(), key };
        if root.tls_info()?.cert_issuer_public_key != root.key.subject_public_key_info() {
            return Err(CaError::Malformed("the signing key is not that of the root certificate"));
        }
        Ok(root)
    }

    /// The certificate, PEM with LF line ends.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key as PKCS#8 DER, for sealing.
    pub fn key_bytes(&self) -> SecretBytes {
        SecretBytes::new(self.key.serialize_der())
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.key
    }

    /// What the API says of the root.
    ///
    /// # Errors
    /// The certificate cannot be parsed.
    pub fn tls_info(&self) -> Result<TlsInfo, CaError> {
        let der = der_of_pem(&self.pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| CaError::Malformed("the root certificate cannot be parsed"))?;
        Ok(TlsInfo {
            trust_root: self.pem.clone(),
            cert_issuer_subject: certificate.subject().as_raw().to_vec(),
            cert_issuer_public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// The first certificate of a PEM text, as DER.
pub(crate) fn der_of_pem(pem: &str) -> Result<Vec<u8>, CaError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|_| CaError::Malformed("not a PEM text"))?;
    Ok(block.contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanoseconds = 1_780_000_000 * 1_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_nanos(i128::from(NOW))
    }

    #[test]
    fn a_root_signs_only_itself_and_others_for_twenty_years() {
        let root = Root::make(now()).expect("a root");
        assert!(!root.pem().contains('\r'), "the digest of the tokens is over these bytes");
        let der = der_of_pem(root.pem()).expect("a PEM text");
        let (rest, certificate) = x509_parser::parse_x509_certificate(&der).expect("one");
        assert!(rest.is_empty());
        assert_eq!(certificate.subject().to_string(), "CN=swarm-ca");
        assert_eq!(certificate.issuer(), certificate.subject());
        assert!(certificate.verify_signature(None).is_ok());
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), now().unix_seconds() - 3600);
        assert_eq!(validity.not_after.timestamp(), now().unix_seconds() + 20 * 365 * 24 * 3600);
        let info = root.tls_info().expect("it can be parsed");
        assert_eq!(info.trust_root, root.pem());
        assert_eq!(info.cert_issuer_subject, certificate.subject().as_raw());
        assert_eq!(info.cert_issuer_public_key, certificate.public_key().raw);
    }

    #[test]
    fn a_stored_root_is_loaded_with_its_own_key_only() {
        let (root, other) = (Root::make(now()), Root::make(now()));
        let (root, other) = (root.expect("a root"), other.expect("a root"));
        let loaded = Root::load(root.pem(), &root.key_bytes()).expect("its own");
        assert_eq!(loaded.pem(), root.pem());
        assert_eq!(loaded.key_bytes().expose(), root.key_bytes().expose());
        assert!(Root::load(root.pem(), &other.key_bytes()).is_err(), "another's key");
        assert!(Root::load(root.pem(), &SecretBytes::new(vec![1, 2, 3])).is_err(), "no key");
        assert!(Root::load("nonsense", &root.key_bytes()).is_err(), "no certificate");
    }
}
