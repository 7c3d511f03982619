//! Who a peer is, by its certificate alone.

use x509_parser::x509::X509Name;

use super::issue::unit;
use crate::domain::id::NodeId;
use crate::domain::node::NodeRole;

/// Whom a verified certificate names. That it is verified is the TLS layer's promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Its role.
    pub role: NodeRole,
    /// The cluster, as the certificate says; compare it before believing the rest.
    pub cluster: String,
    /// End of the certificate's life, seconds since 1970.
    pub not_after: i64,
}

impl Identity {
    /// Reads a certificate. `None` when it names no node of any cluster.
    pub fn of_certificate(der: &[u8]) -> Option<Identity> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let role = match first(subject.iter_organizational_unit())? {
            text if text == unit(NodeRole::Worker) => NodeRole::Worker,
            text if text == unit(NodeRole::Manager) => NodeRole::Manager,
            _ => return None,
        };
        Some(Identity {
            node: common_name(subject)?.parse().ok()?,
            role,
            cluster: first(subject.iter_organization())?.to_owned(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

fn common_name<'a>(subject: &'a X509Name<'_>) -> Option<&'a str> {
    first(subject.iter_common_name())
}

fn first<'a, 'b: 'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'b>>,
) -> Option<&'a str> {
    attributes.next()?.as_str().ok()
}

/// The end of life of the leaf of a PEM chain, as seconds since 1970; 0 when it cannot be read.
pub fn not_after_of_chain(pem: &str) -> i64 {
    super::root::der_of_pem(pem)
        .ok()
        .and_then(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
            Some(certificate.validity().not_after.timestamp())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    const NODE: &str = "0123456789abcdefghijklmno";

    /// Whom a certificate with this subject names.
    fn identity(subject: &[(DnType, &str)]) -> Option<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Identity::of_certificate(certificate.der())
    }

    #[test]
    fn a_subject_names_cluster_role_and_node() {
        use DnType::{CommonName, OrganizationName, OrganizationalUnitName};
        for (unit, role) in
            [("swarm-worker", NodeRole::Worker), ("swarm-manager", NodeRole::Manager)]
        {
            let subject =
                [(OrganizationName, "c"), (OrganizationalUnitName, unit), (CommonName, NODE)];
            let found = identity(&subject).expect("a member");
            assert_eq!((found.node.as_str(), found.role, &*found.cluster), (NODE, role, "c"));
            assert!(found.not_after > 0);
        }
    }

    #[test]
    fn a_subject_that_lacks_one_of_them_names_nobody() {
        use DnType::{CommonName, OrganizationName, OrganizationalUnitName};
        let (o, ou, cn) =
            ((OrganizationName, "c"), (OrganizationalUnitName, "swarm-worker"), (CommonName, NODE));
        assert!(identity(&[]).is_none());
        assert!(identity(&[ou.clone(), cn.clone()]).is_none());
        assert!(identity(&[o.clone(), cn.clone()]).is_none());
        assert!(identity(&[o.clone(), ou.clone()]).is_none());
        let other_unit = (OrganizationalUnitName, "swarm-ca");
        assert!(identity(&[o.clone(), other_unit, cn]).is_none());
        let other_name = (CommonName, "swarm-manager");
        assert!(identity(&[o, ou, other_name]).is_none(), "no node id");
        assert!(Identity::of_certificate(b"nonsense").is_none());
    }

    #[test]
    fn a_chain_ends_when_its_leaf_does() {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.self_signed(&key).expect("signed").pem();
        let later = CertificateParams::default().self_signed(&key).expect("signed").pem();
        let expected = params.not_after.unix_timestamp();
        assert_eq!(not_after_of_chain(&(leaf + &later)), expected);
        assert_eq!(not_after_of_chain("nonsense"), 0);
    }
}
