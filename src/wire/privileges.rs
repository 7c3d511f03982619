//! Security options of a container.

use super::proto;
use super::proto::privileges as twin;
use crate::domain::container::{
    AppArmorMode, AppArmorOpts, CredentialSpec, Privileges, SeLinuxContext, SeccompMode,
    SeccompOpts,
};

/// The message of a container's security options.
pub(super) fn privileges(privileges: &Privileges) -> proto::Privileges {
    proto::Privileges {
        credential_spec: privileges.credential_spec.as_ref().and_then(credential_spec),
        selinux_context: privileges.selinux_context.as_ref().map(selinux_context),
        seccomp: privileges.seccomp.as_ref().map(seccomp),
        apparmor: privileges.app_armor.as_ref().map(app_armor),
        no_new_privileges: privileges.no_new_privileges,
    }
}

/// The one source that is set; absent without any.
fn credential_spec(spec: &CredentialSpec) -> Option<twin::CredentialSpec> {
    use twin::credential_spec::Source;
    let source = if !spec.config.is_empty() {
        Source::Config(spec.config.clone())
    } else if !spec.file.is_empty() {
        Source::File(spec.file.clone())
    } else if !spec.registry.is_empty() {
        Source::Registry(spec.registry.clone())
    } else {
        return None;
    };
    Some(twin::CredentialSpec { source: Some(source) })
}

fn selinux_context(context: &SeLinuxContext) -> twin::SeLinuxContext {
    twin::SeLinuxContext {
        disable: context.disable,
        user: context.user.clone(),
        role: context.role.clone(),
        r#type: context.kind.clone(),
        level: context.level.clone(),
    }
}

fn seccomp(options: &SeccompOpts) -> twin::SeccompOpts {
    use twin::seccomp_opts::SeccompMode as Twin;
    let mode = match options.mode {
        SeccompMode::Default => Twin::Default,
        SeccompMode::Unconfined => Twin::Unconfined,
        SeccompMode::Custom => Twin::Custom,
    };
    twin::SeccompOpts { mode: mode.into(), profile: options.profile.clone() }
}

fn app_armor(options: &AppArmorOpts) -> twin::AppArmorOpts {
    use twin::app_armor_opts::AppArmorMode as Twin;
    let mode = match options.mode {
        AppArmorMode::Default => Twin::Default,
        AppArmorMode::Disabled => Twin::Disabled,
    };
    twin::AppArmorOpts { mode: mode.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twin::credential_spec::Source;

    #[test]
    fn a_credential_spec_is_its_one_source() {
        let source = |config: &str, file: &str, registry: &str| {
            let spec = CredentialSpec {
                config: config.into(),
                file: file.into(),
                registry: registry.into(),
            };
            credential_spec(&spec).and_then(|spec| spec.source)
        };
        assert!(source("id", "", "") == Some(Source::Config("id".into())));
        assert!(source("", "f.json", "") == Some(Source::File("f.json".into())));
        assert!(source("", "", "key") == Some(Source::Registry("key".into())));
        assert!(source("", "", "").is_none());
    }

    #[test]
    fn profiles_have_their_numbers() {
        let modes = [SeccompMode::Default, SeccompMode::Unconfined];
        let numbers = modes.map(|mode| seccomp(&SeccompOpts { mode, profile: Vec::new() }).mode);
        assert_eq!(numbers, [0, 1]);
        let custom = SeccompOpts { mode: SeccompMode::Custom, profile: b"{}".to_vec() };
        assert_eq!((seccomp(&custom).mode, seccomp(&custom).profile), (2, b"{}".to_vec()));
        let modes = [AppArmorMode::Default, AppArmorMode::Disabled];
        assert_eq!(modes.map(|mode| app_armor(&AppArmorOpts { mode }).mode), [0, 1]);
    }
}
