//! The small parts that several families share: names and labels, drivers, platforms, resources,
//! and the bounds on what nodes may say.

use std::collections::BTreeMap;

use super::proto;
use super::proto::generic_resource::Resource;
use super::time::timestamp;
use crate::domain::container::Driver;
use crate::domain::meta::{Meta, Version};
use crate::domain::service::{
    DiscreteGenericResource, GenericResource, NamedGenericResource, Platform, Resources,
};

/// Bytes of a name that a node reports (of a kind of resource, a plugin, a platform, a port).
/// Names are words of a few letters, or the id of a device; the bound is generous.
pub(super) const NAME_LEN_MAX: usize = 128;

/// Generic resources that a node reports. An entry is a device or a kind of them, and a host has
/// tens at most.
const GENERIC_MAX: usize = 256;

pub(super) fn meta(meta: &Meta) -> proto::Meta {
    proto::Meta {
        version: Some(version(meta.version)),
        created_at: Some(timestamp(meta.created_at)),
        updated_at: Some(timestamp(meta.updated_at)),
    }
}

pub(super) fn version(version: Version) -> proto::Version {
    proto::Version { index: version.index }
}

pub(super) fn annotations(name: &str, labels: &BTreeMap<String, String>) -> proto::Annotations {
    proto::Annotations { name: name.into(), labels: pairs(labels), indices: Vec::new() }
}

/// The same pairs in whatever map the generated code has.
pub(super) fn pairs<M>(pairs: &BTreeMap<String, String>) -> M
where
    M: FromIterator<(String, String)>,
{
    pairs.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(super) fn driver(driver: &Driver) -> proto::Driver {
    proto::Driver { name: driver.name.clone(), options: pairs(&driver.options) }
}

pub(super) fn platform(platform: &Platform) -> proto::Platform {
    proto::Platform { architecture: platform.architecture.clone(), os: platform.os.clone() }
}

pub(super) fn platform_from(message: &proto::Platform) -> Platform {
    Platform {
        architecture: text(&message.architecture, NAME_LEN_MAX),
        os: text(&message.os, NAME_LEN_MAX),
    }
}

pub(super) fn resources(resources: &Resources) -> proto::Resources {
    proto::Resources {
        nano_cpus: resources.nano_cpus,
        memory_bytes: resources.memory_bytes,
        generic: resources.generic_resources.iter().filter_map(generic).collect(),
    }
}

/// The message of a generic resource; absent when it is empty.
pub(super) fn generic(resource: &GenericResource) -> Option<proto::GenericResource> {
    let resource = match (&resource.named_resource_spec, &resource.discrete_resource_spec) {
        (Some(named), _) => Resource::NamedResourceSpec(proto::NamedGenericResource {
            kind: named.kind.clone(),
            value: named.value.clone(),
        }),
        (None, Some(discrete)) => Resource::DiscreteResourceSpec(proto::DiscreteGenericResource {
            kind: discrete.kind.clone(),
            value: discrete.value,
        }),
        (None, None) => return None,
    };
    Some(proto::GenericResource { resource: Some(resource) })
}

/// What a node says it has. Negative amounts, which would upset sums, count as nothing.
pub(super) fn resources_from(message: &proto::Resources) -> Resources {
    Resources {
        nano_cpus: message.nano_cpus.max(0),
        memory_bytes: message.memory_bytes.max(0),
        generic_resources: message
            .generic
            .iter()
            .filter_map(generic_from)
            .take(GENERIC_MAX)
            .collect(),
    }
}

/// One generic resource; absent when it is empty, or when a name is too long: a cut name would be
/// that of another resource.
fn generic_from(message: &proto::GenericResource) -> Option<GenericResource> {
    match message.resource.as_ref()? {
        Resource::NamedResourceSpec(named) => Some(GenericResource {
            named_resource_spec: Some(NamedGenericResource {
                kind: whole(&named.kind, NAME_LEN_MAX)?.into(),
                value: whole(&named.value, NAME_LEN_MAX)?.into(),
            }),
            discrete_resource_spec: None,
        }),
        Resource::DiscreteResourceSpec(discrete) => Some(GenericResource {
            named_resource_spec: None,
            discrete_resource_spec: Some(DiscreteGenericResource {
                kind: whole(&discrete.kind, NAME_LEN_MAX)?.into(),
                value: discrete.value.max(0),
            }),
        }),
    }
}

/// A text that is only shown, cut to at most this many bytes.
pub(super) fn text(text: &str, len_max: usize) -> String {
    text[..text.floor_char_boundary(len_max)].to_owned()
}

/// A text that something is compared with; absent when it is longer than this many bytes, since
/// a cut one could equal what it is not.
pub(super) fn whole(text: &str, len_max: usize) -> Option<&str> {
    (text.len() <= len_max).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(text("abc", 3), "abc");
        assert_eq!(text("abcd", 3), "abc");
        assert_eq!(text("aé", 2), "a");
        assert_eq!(text("é", 0), "");
    }

    #[test]
    fn generic_resources_survive_both_ways_and_are_bounded() {
        let named = NamedGenericResource { kind: "GPU".into(), value: "uuid-1".into() };
        let discrete = DiscreteGenericResource { kind: "SSD".into(), value: 3 };
        let owned = Resources {
            nano_cpus: 4,
            memory_bytes: 5,
            generic_resources: vec![
                GenericResource { named_resource_spec: Some(named), discrete_resource_spec: None },
                GenericResource {
                    named_resource_spec: None,
                    discrete_resource_spec: Some(discrete),
                },
            ],
        };
        let mut message = resources(&owned);
        assert_eq!(resources_from(&message), owned);

        let long = NamedGenericResource { kind: "k".repeat(NAME_LEN_MAX + 1), value: "v".into() };
        let long = GenericResource { named_resource_spec: Some(long), ..Default::default() };
        message.generic.extend(generic(&long));
        message.generic.push(proto::GenericResource { resource: None });
        message.memory_bytes = -1;
        let read = resources_from(&message);
        assert_eq!(read.generic_resources, owned.generic_resources);
        assert_eq!(read.memory_bytes, 0);

        message.generic = vec![message.generic[0].clone(); GENERIC_MAX + 1];
        assert_eq!(resources_from(&message).generic_resources.len(), GENERIC_MAX);
    }
}
