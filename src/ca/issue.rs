//! Issuing: from a node's request to its certificate chain.
//!
//! Of a request only the public key is used; subject and names come from the manager. The request's
//! own signature is checked, so that nobody gets a certificate for a key that is not theirs.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::root::{BACKDATE, CaError, ROOT_NAME, Root};
use crate::domain::id::{ClusterId, NodeId};
use crate::domain::node::NodeRole;
use crate::domain::time::{Nanoseconds, Timestamp};

/// The longest request that is looked at, in bytes. A stock one has about 330.
pub const CSR_LEN_MAX: usize = 16 * 1024;

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The cluster, `O`.
    pub cluster: ClusterId,
    /// The node, `CN`.
    pub node: NodeId,
    /// The role, `OU`. Engines are only ever workers.
    pub role: NodeRole,
}

/// The organisational unit that stands for a role.
pub(super) fn unit(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => "swarm-worker",
        NodeRole::Manager => "swarm-manager",
    }
}

impl Root {
    /// Signs a request: the chain as PEM, leaf first.
    ///
    /// # Errors
    /// The request is too long, cannot be parsed, or is not signed with its own key.
    pub fn sign_request(
        &self,
        csr: &[u8],
        holder: Holder,
        now: Timestamp,
        life: Nanoseconds,
    ) -> Result<String, CaError> {
        if csr.len() > CSR_LEN_MAX {
            return Err(CaError::Malformed("the certificate request is too long"));
        }
        let malformed = CaError::Malformed("the certificate request cannot be parsed");
        let Ok((_, block)) = x509_parser::pem::parse_x509_pem(csr) else { return Err(malformed) };
        let Ok((_, request)) = X509CertificationRequest::from_der(&block.contents) else {
            return Err(malformed);
        };
        if request.verify_signature().is_err() {
            return Err(CaError::Malformed(
                "the certificate request is not signed with its own key",
            ));
        }
        let key =
            SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)?;
        self.sign_key(&key, holder, now, life)
    }

    /// Makes a key and a certificate for this manager's own end of the nodes' door. The key is
    /// never stored: a manager makes a new pair at every start.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn issue_own(
        &self,
        holder: Holder,
        now: Timestamp,
        life: Nanoseconds,
    ) -> Result<(String, KeyPair), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok((self.sign_key(&key, holder, now, life)?, key))
    }

    fn sign_key(
        &self,
        key: &impl PublicKeyData,
        holder: Holder,
        now: Timestamp,
        life: Nanoseconds,
    ) -> Result<String, CaError> {
        let mut names = vec![unit(holder.role).to_owned(), holder.node.to_string()];
        if holder.role == NodeRole::Manager {
            names.push(ROOT_NAME.to_owned());
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, holder.cluster.as_str());
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit(holder.role));
        params.distinguished_name.push(DnType::CommonName, holder.node.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // An agent renews somewhere between half and four fifths of the whole validity. One that
        // reached back far compared with what is left would be renewed again and again.
        params.not_before = to_offset(now.plus(-BACKDATE.min(life / 4)));
        params.not_after = to_offset(now.plus(life));
        let issuer = Issuer::from_ca_cert_pem(self.pem(), self.key())?;
        Ok(params.signed_by(key, &issuer)?.pem().replace("\r\n", "\n") + self.tail())
    }
}

/// Certificates know whole seconds only.
pub(super) fn to_offset(moment: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{GeneralName, X509Certificate};

    use super::*;
    use crate::ca::root::der_of_pem;

    const HOUR: Nanoseconds = 3600 * 1_000_000_000;

    fn now() -> Timestamp {
        Timestamp::from_unix_nanos(1_780_000_000 * 1_000_000_000)
    }

    fn holder(role: NodeRole) -> Holder {
        Holder { cluster: ClusterId::derive([1; 17]), node: NodeId::derive([2; 17]), role }
    }

    fn request(params: &CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        request.expect("a request").into_bytes()
    }

    /// Looks at the leaf of a chain.
    fn look<T>(chain: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let der = der_of_pem(chain).expect("a PEM text");
        look(&x509_parser::parse_x509_certificate(&der).expect("a certificate").1)
    }

    fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
        let names = certificate.subject_alternative_name().expect("one").expect("there").value;
        let dns = names.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        dns.collect()
    }

    #[test]
    fn the_request_has_no_say_in_who_it_is_for() {
        let root = Root::make(now()).expect("a root");
        let mut params = CertificateParams::new(vec!["swarm-manager".into()]).expect("names");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
        params.is_ca = IsCa::NoCa;
        let worker = holder(NodeRole::Worker);
        let chain = root.sign_request(&request(&params), worker, now(), 24 * HOUR);
        let chain = chain.expect("signed");
        assert!(!chain.contains('\r') && chain.ends_with('\n'));
        look(&chain, |leaf| {
            let subject = format!("O={}, OU=swarm-worker, CN={}", worker.cluster, worker.node);
            assert_eq!(leaf.subject().to_string(), subject);
            assert_eq!(names(leaf), ["swarm-worker".to_owned(), worker.node.to_string()]);
            assert!(!leaf.is_ca());
        });
    }

    #[test]
    fn only_a_manager_answers_to_the_names_of_one() {
        let root = Root::make(now()).expect("a root");
        let own = holder(NodeRole::Manager);
        let (chain, _) = root.issue_own(own, now(), 24 * HOUR).expect("signed");
        let expected = ["swarm-manager".to_owned(), own.node.to_string(), "swarm-ca".to_owned()];
        assert_eq!(look(&chain, names), expected);
    }

    #[test]
    fn a_short_life_reaches_back_but_a_little() {
        let root = Root::make(now()).expect("a root");
        let request = request(&CertificateParams::default());
        for (life, backdate) in [(24 * HOUR, HOUR), (4 * HOUR, HOUR), (HOUR, HOUR / 4)] {
            let worker = holder(NodeRole::Worker);
            let chain = root.sign_request(&request, worker, now(), life).expect("signed");
            let (from, to) = look(&chain, |leaf| {
                let validity = leaf.validity();
                (validity.not_before.timestamp(), validity.not_after.timestamp())
            });
            let span = |seconds: i64| seconds * 1_000_000_000;
            assert_eq!(span(to - now().unix_seconds()), life);
            assert_eq!(span(now().unix_seconds() - from), backdate);
            // An agent renews at half of the whole validity at the earliest.
            assert!((from + to) / 2 > now().unix_seconds(), "or it renews in a loop");
        }
    }

    #[test]
    fn what_is_no_sound_request_is_refused() {
        let root = Root::make(now()).expect("a root");
        let sound = request(&CertificateParams::default());
        let sign = |csr: &[u8]| {
            let signed = root.sign_request(csr, holder(NodeRole::Worker), now(), HOUR);
            signed.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(sign(&sound), "");
        for garbage in [&b""[..], b"\0", b"-----BEGIN CERTIFICATE REQUEST-----\n", &sound[..200]] {
            assert!(sign(garbage).contains("cannot be parsed"));
        }
        assert!(sign(root.pem().as_bytes()).contains("cannot be parsed"), "a certificate");
        let mut long = sound.clone();
        long.resize(CSR_LEN_MAX + 1, b'\n');
        assert!(sign(&long).contains("too long"));
        long.pop();
        assert_eq!(sign(&long), "", "the limit itself is fine");
    }
}
