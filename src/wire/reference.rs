//! How a container asks for secrets and configs.

use super::proto;
use super::proto::privileges::credential_spec;
use super::proto::{config_reference, secret_reference};
use crate::domain::container::ConfigReference;
use crate::domain::revision::Numbers;
use crate::domain::secret::{FileTarget, SecretReference};

/// Owner of a file whose target names none. Engines parse it as a number and fail the task on an
/// empty text.
const OWNER_DEFAULT: &str = "0";

/// The bits of a mode that Unix and engines mean the same by. Engines read higher ones in a layout
/// of their own.
const MODE_BITS: u32 = 0o777;

/// The id that nodes know a later value of a config by. An agent looks for a config by the id in the
/// task's own spec and for no other, so that the spec has to say this one.
pub fn revision_id(id: &str, number: u64) -> String {
    format!("{id}.{number}")
}

/// Has a container ask for the values that its task is to have.
pub(super) fn choose(container: &mut proto::ContainerSpec, numbers: &Numbers) {
    let chosen = |id: &str| numbers.get(id).map(|number| revision_id(id, *number));
    for config in &mut container.configs {
        if let Some(id) = chosen(&config.config_id) {
            config.config_id = id;
        }
    }
    let privileges = container.privileges.as_mut();
    let credentials = privileges.and_then(|privileges| privileges.credential_spec.as_mut());
    if let Some(credential_spec::Source::Config(config)) =
        credentials.and_then(|credentials| credentials.source.as_mut())
        && let Some(id) = chosen(config)
    {
        *config = id;
    }
}

/// The message of a granted secret; absent without a file, for which engines do nothing.
pub(super) fn secret(reference: &SecretReference) -> Option<proto::SecretReference> {
    let file = reference.file.as_ref()?;
    Some(proto::SecretReference {
        secret_id: reference.secret_id.clone(),
        secret_name: reference.secret_name.clone(),
        target: Some(secret_reference::Target::File(file_target(file))),
    })
}

/// The message of a granted config; absent with neither a file nor the mark of the runtime.
pub(super) fn config(reference: &ConfigReference) -> Option<proto::ConfigReference> {
    let target = match (&reference.runtime, &reference.file) {
        (Some(_), _) => config_reference::Target::Runtime(proto::RuntimeTarget {}),
        (None, Some(file)) => config_reference::Target::File(file_target(file)),
        (None, None) => return None,
    };
    Some(proto::ConfigReference {
        config_id: reference.config_id.clone(),
        config_name: reference.config_name.clone(),
        target: Some(target),
    })
}

/// A file in the container. One without a mode is readable by nobody but root: never wider than given.
fn file_target(file: &FileTarget) -> proto::FileTarget {
    let owner = |text: &str| if text.is_empty() { OWNER_DEFAULT } else { text }.to_owned();
    proto::FileTarget {
        name: file.name.clone(),
        uid: owner(&file.uid),
        gid: owner(&file.gid),
        mode: file.mode & MODE_BITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(uid: &str, gid: &str, mode: u32) -> FileTarget {
        FileTarget { name: "password".into(), uid: uid.into(), gid: gid.into(), mode }
    }

    #[test]
    fn a_file_has_a_numeric_owner_and_no_wider_mode_than_given() {
        let cases = [
            (file("", "", 0), ("0", "0", 0)),
            (file("1000", "2000", 0o440), ("1000", "2000", 0o440)),
            (file("", "5", 0o100_400), ("0", "5", 0o400)),
            (file("5", "", 0o4000), ("5", "0", 0)),
        ];
        for (file, (uid, gid, mode)) in cases {
            let message = file_target(&file);
            assert_eq!((&*message.uid, &*message.gid, message.mode), (uid, gid, mode), "{file:?}");
            assert_eq!(message.name, "password");
        }
    }

    #[test]
    fn references_without_a_target_are_skipped() {
        let mut reference =
            SecretReference { file: None, secret_id: "id".into(), secret_name: "name".into() };
        assert!(secret(&reference).is_none());
        reference.file = Some(file("", "", 0));
        let message = secret(&reference).expect("a reference with a file is sent");
        assert_eq!((&*message.secret_id, &*message.secret_name), ("id", "name"));

        let mut reference = ConfigReference::default();
        assert!(config(&reference).is_none());
        reference.file = Some(file("", "", 0));
        let target = config(&reference).and_then(|message| message.target);
        assert!(matches!(target, Some(config_reference::Target::File(_))));
        reference.runtime = Some(Default::default());
        let target = config(&reference).and_then(|message| message.target);
        assert!(matches!(target, Some(config_reference::Target::Runtime(_))));
    }
}
