//! Mounts of a container.

use super::common::{driver, pairs};
use super::proto;
use super::proto::mount as twin;
use crate::domain::container::{
    BindOptions, Mount, MountConsistency, MountType, Propagation, TmpfsOptions, VolumeOptions,
};

/// The message of a mount.
///
/// Bind options that ask for nothing are left out: clients send them empty with mounts of any
/// type, and an engine rejects a task whose volume has bind options.
pub(super) fn mount(mount: &Mount) -> proto::Mount {
    let bind_options =
        mount.bind_options.as_ref().filter(|options| **options != BindOptions::default());
    proto::Mount {
        r#type: kind(mount.kind).into(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        readonly: mount.read_only,
        bind_options: bind_options.map(bind),
        volume_options: mount.volume_options.as_ref().map(volume),
        tmpfs_options: mount.tmpfs_options.as_ref().map(tmpfs),
        consistency: consistency(mount.consistency.unwrap_or(MountConsistency::Default)).into(),
    }
}

fn kind(kind: MountType) -> twin::Type {
    match kind {
        MountType::Bind => twin::Type::Bind,
        MountType::Volume => twin::Type::Volume,
        MountType::Tmpfs => twin::Type::Tmpfs,
        MountType::Npipe => twin::Type::Npipe,
        MountType::Cluster => twin::Type::Cluster,
    }
}

fn consistency(consistency: MountConsistency) -> twin::Consistency {
    match consistency {
        MountConsistency::Default => twin::Consistency::Default,
        MountConsistency::Consistent => twin::Consistency::Consistent,
        MountConsistency::Cached => twin::Consistency::Cached,
        MountConsistency::Delegated => twin::Consistency::Delegated,
    }
}

fn bind(options: &BindOptions) -> twin::BindOptions {
    let propagation = options.propagation.unwrap_or(Propagation::RPrivate);
    twin::BindOptions {
        propagation: self::propagation(propagation).into(),
        nonrecursive: options.non_recursive,
        createmountpoint: options.create_mountpoint,
        readonlynonrecursive: options.read_only_non_recursive,
        readonlyforcerecursive: options.read_only_force_recursive,
    }
}

fn propagation(propagation: Propagation) -> twin::bind_options::Propagation {
    match propagation {
        Propagation::RPrivate => twin::bind_options::Propagation::Rprivate,
        Propagation::Private => twin::bind_options::Propagation::Private,
        Propagation::RShared => twin::bind_options::Propagation::Rshared,
        Propagation::Shared => twin::bind_options::Propagation::Shared,
        Propagation::RSlave => twin::bind_options::Propagation::Rslave,
        Propagation::Slave => twin::bind_options::Propagation::Slave,
    }
}

fn volume(options: &VolumeOptions) -> twin::VolumeOptions {
    twin::VolumeOptions {
        nocopy: options.no_copy,
        labels: pairs(&options.labels),
        driver_config: options.driver_config.as_ref().map(driver),
        subpath: options.subpath.clone(),
    }
}

/// Options of a file system in memory. The API has a list of flags and pairs where the protocol
/// has one string; engines expect the list's JSON in it.
fn tmpfs(options: &TmpfsOptions) -> twin::TmpfsOptions {
    let list = match options.options.as_slice() {
        [] => String::new(),
        list => serde_json::to_string(list).expect("lists of strings have a JSON form"),
    };
    twin::TmpfsOptions { size_bytes: options.size_bytes, mode: options.mode, options: list }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_type_and_consistency_has_its_number() {
        let numbers = |parse: fn(&str) -> Option<i32>, texts: &[&str]| {
            texts.iter().map(|text| parse(text)).collect::<Option<Vec<_>>>()
        };
        let types = ["bind", "volume", "tmpfs", "npipe", "cluster"];
        let type_number = |text: &str| MountType::parse(text).map(|value| kind(value).into());
        assert_eq!(numbers(type_number, &types), Some(vec![0, 1, 2, 3, 4]));
        let wishes = ["default", "consistent", "cached", "delegated"];
        let wish_number =
            |text: &str| MountConsistency::parse(text).map(|value| consistency(value).into());
        assert_eq!(numbers(wish_number, &wishes), Some(vec![0, 1, 2, 3]));
        let ways = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];
        let way_number =
            |text: &str| Propagation::parse(text).map(|value| propagation(value).into());
        assert_eq!(numbers(way_number, &ways), Some(vec![0, 1, 2, 3, 4, 5]));
    }

    #[test]
    fn a_mount_that_says_nothing_is_a_private_bind() {
        let message =
            mount(&Mount { bind_options: Some(Default::default()), ..Default::default() });
        assert!(message.r#type() == twin::Type::Bind);
        assert!(message.bind_options.is_none(), "empty bind options would fail other mounts");
        let options = BindOptions { non_recursive: true, ..Default::default() };
        let message = mount(&Mount { bind_options: Some(options), ..Default::default() });
        let options = message.bind_options.expect("options that ask for something are sent");
        assert!(options.propagation() == twin::bind_options::Propagation::Rprivate);
    }

    #[test]
    fn tmpfs_options_travel_as_json() {
        let list = vec![vec!["noexec".into()], vec!["uid".into(), "1000".into()]];
        let message = tmpfs(&TmpfsOptions { size_bytes: 1, mode: 0o1777, options: list });
        assert_eq!(message.options, r#"[["noexec"],["uid","1000"]]"#);
        assert_eq!(tmpfs(&TmpfsOptions::default()).options, "");
    }
}
