//! The root certificate and its key.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::{ParsedExtension, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

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

/// A key as PKCS#8. The older forms say less of what kind of key it is; that of the certificate, which
/// it has to be, says it.
fn pkcs8(key: &PrivateKeyDer<'_>, public_key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let inner = match key {
        PrivateKeyDer::Pkcs8(whole) => {
            return Some(Zeroizing::new(whole.secret_pkcs8_der().to_vec()));
        }
        PrivateKeyDer::Pkcs1(inner) => inner.secret_pkcs1_der(),
        PrivateKeyDer::Sec1(inner) => inner.secret_sec1_der(),
        _ => return None,
    };
    let (_, public_key) = der_value(public_key)?;
    let (algorithm_len, _) = der_value(public_key)?;
    let algorithm = &public_key[..algorithm_len];
    let parts = Zeroizing::new([&[2, 1, 0], algorithm, &*der(4, inner)].concat());
    Some(der(0x30, &parts))
}

/// How long a value of DER is, with its head, and what it holds.
fn der_value(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, head_len) = (usize::from(*bytes.get(1)?), 2);
    let (head_len, len) = match first.checked_sub(0x80) {
        None => (head_len, first),
        Some(count) if count <= 4 => {
            let digits = bytes.get(2..2 + count)?;
            let len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
            (head_len + count, len)
        }
        Some(_) => return None,
    };
    Some((head_len + len, bytes.get(head_len..head_len + len)?))
}

/// A value of DER.
fn der(tag: u8, content: &[u8]) -> Zeroizing<Vec<u8>> {
    let len = content.len().to_be_bytes();
    let digits = &len[len.iter().take_while(|digit| **digit == 0).count()..];
    let mut value = Zeroizing::new(Vec::with_capacity(content.len() + 10));
    value.push(tag);
    if content.len() >= 0x80 {
        value.push(0x80 | u8::try_from(digits.len()).expect("a length has eight digits"));
        value.extend_from_slice(digits);
    } else {
        value.push(u8::try_from(content.len()).expect("it is below 128"));
    }
    value.extend_from_slice(content);
    value
}

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
    /// Stands behind every certificate that is issued, for who trusts only the root before.
    tail: String,
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
        Ok(Root { pem, key, tail: String::new() })
    }

    /// Takes a root from what the store keeps: its certificate, and its key as PKCS#8 DER.
    ///
    /// # Errors
    /// One of the two cannot be understood, or they do not belong together.
    pub fn load(pem: &str, key: &SecretBytes) -> Result<Root, CaError> {
        // A door for key bytes: into the signer's own key type, which lives as long as the root.
        let key = KeyPair::try_from(key.expose())?;
        Root::of_parts(pem.to_owned(), key)
    }

    /// Takes a root that a user supplies: its certificate and key, both PEM.
    ///
    /// # Errors
    /// As [`Root::load`]; or it is not self-signed, no authority, or not valid now.
    pub fn supplied(pem: &str, key: &str, now: Timestamp) -> Result<Root, CaError> {
        let malformed = "the signing key is no key in PEM: PKCS#8, PKCS#1 and SEC1 are understood";
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|_| CaError::Malformed(malformed))?;
        let pem = pem.trim().replace("\r\n", "\n") + "\n";
        let der = der_of_pem(&pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| CaError::Malformed("the root certificate cannot be parsed"))?;
        let key = pkcs8(&key, certificate.public_key().raw).ok_or(CaError::Malformed(malformed))?;
        let key = KeyPair::try_from(&key[..]).map_err(|_| CaError::Malformed(malformed))?;
        let root = Root::of_parts(pem, key)?;
        if certificate.verify_signature(None).is_err() || !certificate.is_ca() {
            return Err(CaError::Malformed("the certificate is no self-signed authority"));
        }
        let (validity, seconds) = (certificate.validity(), now.unix_seconds());
        if seconds < validity.not_before.timestamp() || validity.not_after.timestamp() < seconds {
            return Err(CaError::Malformed("the root certificate is not valid now"));
        }
        Ok(root)
    }

    fn of_parts(pem: String, key: KeyPair) -> Result<Root, CaError> {
        let root = Root { pem, key, tail: String::new() };
        if root.tls_info()?.cert_issuer_public_key != root.key.subject_public_key_info() {
            return Err(CaError::Malformed("the signing key is not that of the root certificate"));
        }
        Ok(root)
    }

    /// The same with a certificate that stands behind every one that is issued.
    pub fn with_tail(self, tail: &str) -> Root {
        Root { tail: tail.to_owned(), ..self }
    }

    /// Another root's certificate, signed by this one: who trusts this root believes the other.
    ///
    /// # Errors
    /// The other's certificate cannot be understood.
    pub fn cross_sign(&self, other: &Root) -> Result<String, CaError> {
        let der = der_of_pem(&other.pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| CaError::Malformed("the root certificate cannot be parsed"))?;
        let params = authority_like(&certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&self.pem, &self.key)?;
        Ok(params.signed_by(&other.key, &issuer)?.pem().replace("\r\n", "\n"))
    }

    pub(super) fn tail(&self) -> &str {
        &self.tail
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

/// An authority with the names, the life and the key's mark of another one.
fn authority_like(certificate: &X509Certificate<'_>) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid = attribute.attr_type().iter().map(Iterator::collect::<Vec<u64>>);
        let kind = DnType::from_oid(&oid.unwrap_or_default());
        let value = attribute.attr_value();
        let text = std::str::from_utf8(value.data).map_err(|_| UNNAMED)?;
        // In the same kind of string: names are compared byte by byte.
        let value = match value.header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into()?),
            _ => return Err(UNNAMED),
        };
        params.distinguished_name.push(kind, value);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let of_seconds = |at: ASN1Time| {
        to_offset(Timestamp::from_unix_nanos(i128::from(at.timestamp()) * 1_000_000_000))
    };
    let validity = certificate.validity();
    (params.not_before, params.not_after) =
        (of_seconds(validity.not_before), of_seconds(validity.not_after));
    let mark =
        certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(mark) => Some(mark.0.to_vec()),
            _ => None,
        });
    if let Some(mark) = mark {
        params.key_identifier_method = KeyIdMethod::PreSpecified(mark);
    }
    Ok(params)
}

const UNNAMED: CaError =
    CaError::Malformed("the root certificate has a name of a kind that is not supported");

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

    #[test]
    fn a_key_may_come_in_the_forms_of_before_pkcs8() {
        let now = Timestamp::from_unix_nanos(1_800_000_000 * 1_000_000_000);
        let root = Root::make(now).expect("a root");
        let whole = root.key.serialize_der();
        // Version, algorithm, and in a text of bytes the key as SEC1 has it.
        let (_, parts) = der_value(&whole).expect("a sequence");
        let (version, _) = der_value(parts).expect("a number");
        let (algorithm, _) = der_value(&parts[version..]).expect("a sequence");
        let (_, sec1) = der_value(&parts[version + algorithm..]).expect("a text of bytes");
        use base64::Engine as _;
        let pem = |label: &str, der: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        for key in [pem("EC PRIVATE KEY", sec1), pem("PRIVATE KEY", &whole)] {
            let supplied = Root::supplied(root.pem(), &key, now).expect("it is understood");
            assert_eq!(supplied.key.serialize_der(), whole);
        }
        for bad in ["", "x", &pem("EC PRIVATE KEY", b"x"), &pem("PRIVATE KEY", sec1)] {
            assert!(Root::supplied(root.pem(), bad, now).is_err(), "{bad}");
        }
    }
}
