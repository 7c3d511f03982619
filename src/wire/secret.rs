//! Secrets as they are handed to a node.

use super::common::{annotations, driver, meta};
use super::proto;
use crate::domain::secret::Secret;

/// The message of a secret with its payload in clear, under the id that a node is to know it by. Whoever
/// calls this has a node that needs it at hand, and wipes the encoded message once it is sent.
pub fn secret_as(secret: &Secret, id: String, data: Vec<u8>) -> proto::Secret {
    let spec = &secret.spec;
    let internal = id != secret.id.as_str();
    proto::Secret {
        id,
        meta: Some(meta(&secret.meta)),
        spec: Some(proto::SecretSpec {
            annotations: Some(annotations(&spec.name, &spec.labels)),
            data,
            templating: spec.templating.as_ref().map(driver),
            driver: spec.driver.as_ref().map(driver),
        }),
        internal,
    }
}

/// The message that names a secret for its removal, without anything of it. The id is text, since
/// a value for one task goes under `<secret id>.<task id>`.
pub fn secret_removal(id: &str) -> proto::Secret {
    proto::Secret { id: id.into(), meta: None, spec: None, internal: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixture;

    #[test]
    fn a_secret_is_sent_whole() {
        let stored = fixture::secret();
        let message = secret_as(&stored, stored.id.to_string(), b"open sesame".to_vec());
        assert_eq!(message.id, stored.id.as_str());
        assert_eq!(
            message.meta.and_then(|meta| meta.version).map(|version| version.index),
            Some(9)
        );
        assert!(!message.internal);
        let spec = message.spec.expect("sent");
        assert_eq!(spec.data, b"open sesame");
        let annotations = spec.annotations.expect("sent");
        assert_eq!((&*annotations.name, &*annotations.labels["a"]), ("password", "b"));
        assert_eq!(spec.templating.map(|driver| driver.name), Some("golang".into()));
        assert_eq!(spec.driver.map(|driver| driver.name), Some("local".into()));
    }

    #[test]
    fn a_removal_carries_the_id_alone() {
        let message = secret_removal("secret.task");
        assert_eq!(message.id, "secret.task");
        assert!(message.meta.is_none() && message.spec.is_none());
    }
}
