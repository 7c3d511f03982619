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
