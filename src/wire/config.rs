//! Configs as they are handed to a node.

use super::common::{annotations, driver, meta};
use super::proto;
use crate::domain::config::Config;

/// The message of a config with its data, under the id that a node is to know it by.
pub fn config_as(config: &Config, id: String, data: Vec<u8>) -> proto::Config {
    let spec = &config.spec;
    proto::Config {
        id,
        meta: Some(meta(&config.meta)),
        spec: Some(proto::ConfigSpec {
            annotations: Some(annotations(&spec.name, &spec.labels)),
            data,
            templating: spec.templating.as_ref().map(driver),
        }),
    }
}

/// The message that names a config for its removal, without anything of it.
pub fn config_removal(id: &str) -> proto::Config {
    proto::Config { id: id.into(), meta: None, spec: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixture;

    #[test]
    fn a_config_is_sent_whole() {
        let stored = fixture::config();
        let message = config_as(&stored, stored.id.to_string(), b"listen 80".to_vec());
        assert_eq!(message.id, stored.id.as_str());
        assert_eq!(
            message.meta.and_then(|meta| meta.version).map(|version| version.index),
            Some(9)
        );
        let spec = message.spec.expect("sent");
        assert_eq!(spec.data, b"listen 80");
        let annotations = spec.annotations.expect("sent");
        assert_eq!((&*annotations.name, &*annotations.labels["a"]), ("settings", "b"));
        assert_eq!(spec.templating.map(|driver| driver.name), Some("golang".into()));
    }

    #[test]
    fn a_removal_carries_the_id_alone() {
        let message = config_removal("config");
        assert_eq!(message.id, "config");
        assert!(message.meta.is_none() && message.spec.is_none());
    }
}
