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
        Ok(params.signed_by(key, &issuer)?.pem().replace("\r\n", "\n"))
    }
}

/// Certificates know whole seconds only.
pub(super) fn to_offset(moment: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
