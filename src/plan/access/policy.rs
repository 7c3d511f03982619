//! The access policy: which clients may do what, to which objects.
//!
//! ```toml
//! [roles.deployer]
//! allow = [
//!     { verbs = ["read"], kinds = ["service", "task", "node", "network"] },
//!     { verbs = ["create", "update", "remove", "logs"], kinds = ["service"], names = ["web-*"] },
//!     { verbs = ["grant"], kinds = ["secret", "config"], labels = { team = "web" } },
//! ]
//!
//! [[bind]]
//! role = "deployer"
//! who = ["cert:ann", "uid:1000", "gid:2000"]
//! ```
//!
//! What no rule allows is denied. Granting is a right of its own: who may create services may not
//! thereby read what is in secrets, as a service can read whatever it is granted. What is passed on to
//! the engine of the host (`use` of `engine`) amounts to root there.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::actor::{Caller, Identity};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// See it: in lists, by name, in events.
    Read,
    /// Make one.
    Create,
    /// Change it.
    Update,
    /// Remove it.
    Remove,
    /// Give a secret or config to a service.
    Grant,
    /// Read what a service or task writes.
    Logs,
    /// Have the engine of the host do something, or a command supply a secret.
    Use,
    /// Anything.
    #[serde(rename = "*")]
    Any,
}

impl Verb {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Remove => "remove",
            Verb::Grant => "grant",
            Verb::Logs => "read the logs of",
            Verb::Use => "use",
            Verb::Any => "do anything to",
        }
    }
}

/// To what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Secrets.
    Secret,
    /// Configs; reading one is reading its data.
    Config,
    /// Services.
    Service,
    /// Tasks, by the name and labels of their service.
    Task,
    /// Nodes.
    Node,
    /// Networks of the swarm.
    Network,
    /// The swarm: reading it is reading its join tokens.
    Swarm,
    /// The engine of the host, which requests that are not Swarm's are passed on to.
    Engine,
    /// Commands that supply secrets, by their names: whoever may use one may have it print what it prints for
    /// any labels.
    Command,
    /// The audit.
    Audit,
    /// The keys of the store, and that of autolock.
    Keys,
    /// Backups.
    Backup,
    /// Anything.
    #[serde(rename = "*")]
    Any,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Config => "config",
            Kind::Service => "service",
            Kind::Task => "task",
            Kind::Node => "node",
            Kind::Network => "network",
            Kind::Swarm => "the swarm",
            Kind::Engine => "the engine",
            Kind::Command => "command",
            Kind::Audit => "the audit",
            Kind::Keys => "the keys",
            Kind::Backup => "backups",
            Kind::Any => "anything",
        }
    }
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// An object as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its name; empty for what has none.
    pub name: &'a str,
    /// Its labels.
    pub labels: Option<&'a Labels>,
}

impl Target<'_> {
    /// One without a name.
    pub fn of(kind: Kind) -> Target<'static> {
        Target { kind, name: "", labels: None }
    }
}

/// Who may do what. Without one, everybody may do everything, as with Docker.
#[derive(Debug, Clone, Default)]
pub struct Policy(Option<Rules>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    roles: BTreeMap<String, Role>,
    #[serde(default)]
    bind: Vec<Binding>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    allow: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    verbs: Vec<Verb>,
    kinds: Vec<Kind>,
    /// Patterns, `*` standing for any text; of no pattern, all names.
    #[serde(default)]
    names: Option<Vec<String>>,
    /// Labels that it has to have, their values patterns.
    #[serde(default)]
    labels: Labels,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    role: String,
    who: Vec<String>,
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is no TOML, or says something that is not known.
    #[error("{0}")]
    Parse(String),
    /// A binding names a role that is not there.
    #[error("there is no role {0:?} to bind")]
    NoRole(String),
    /// A name for a client that is not known.
    #[error("{0:?} names nobody: uid:NUMBER, gid:NUMBER, cert:NAME, anyone, or * for everybody")]
    NoOne(String),
    /// A rule that would never allow anything.
    #[error("a rule of role {0:?} allows nothing: it needs verbs and kinds")]
    Empty(String),
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// See [`PolicyError`]. A policy is taken whole or not at all.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let rules: Rules =
            toml::from_str(text).map_err(|error| PolicyError::Parse(error.to_string()))?;
        for (name, role) in &rules.roles {
            let is_empty = |rule: &Rule| rule.verbs.is_empty() || rule.kinds.is_empty();
            if role.allow.iter().any(is_empty) {
                return Err(PolicyError::Empty(name.clone()));
            }
        }
        for binding in &rules.bind {
            if !rules.roles.contains_key(&binding.role) {
                return Err(PolicyError::NoRole(binding.role.clone()));
            }
            if let Some(nobody) = binding.who.iter().find(|who| !is_somebody(who)) {
                return Err(PolicyError::NoOne(nobody.clone()));
            }
        }
        Ok(Policy(Some(rules)))
    }

    /// True when there is none, so that everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// True when a client may do this.
    pub fn allows(&self, caller: &Caller, verb: Verb, target: Target<'_>) -> bool {
        let Some(rules) = &self.0 else { return true };
        let is_bound = |binding: &&Binding| binding.who.iter().any(|who| is(who, caller));
        let roles = rules.bind.iter().filter(is_bound).filter_map(|b| rules.roles.get(&b.role));
        roles.flat_map(|role| &role.allow).any(|rule| rule.allows(verb, target))
    }
}

impl Rule {
    fn allows(&self, verb: Verb, target: Target<'_>) -> bool {
        let names = |patterns: &Vec<String>| patterns.iter().any(|p| matches(p, target.name));
        let has = |(key, pattern): (&String, &String)| {
            let value = target.labels.and_then(|labels| labels.get(key));
            value.is_some_and(|value| matches(pattern, value))
        };
        self.verbs.iter().any(|own| [verb, Verb::Any].contains(own))
            && self.kinds.iter().any(|own| [target.kind, Kind::Any].contains(own))
            && self.names.as_ref().is_none_or(names)
            && self.labels.iter().all(has)
    }
}

fn is_somebody(who: &str) -> bool {
    match who.split_once(':') {
        None => matches!(who, "anyone" | "*"),
        Some(("uid" | "gid", number)) => number.parse::<u32>().is_ok(),
        Some(("cert", name)) => !name.is_empty(),
        Some(_) => false,
    }
}

/// True when these words of a binding are a client's.
fn is(who: &str, caller: &Caller) -> bool {
    if who == "*" {
        return true;
    }
    match (who.split_once(':'), caller.identity()) {
        (Some(("uid", number)), Identity::User { uid, .. }) => number.parse() == Ok(*uid),
        (Some(("gid", number)), Identity::User { gid, .. }) => number.parse() == Ok(*gid),
        (Some(("cert", pattern)), Identity::Certificate(name)) => matches(pattern, name),
        (None, Identity::Anyone) => who == "anyone",
        _ => false,
    }
}

/// True when a pattern stands for the whole of a text; `*` stands for any part of it.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::actor::Source;

    fn caller(identity: Identity) -> Caller {
        Caller::new(identity, Source::Unknown)
    }

    #[test]
    fn patterns_stand_for_whole_texts() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "x"),
            ("web-*", "web-"),
            ("*-web", "a-web"),
            ("a*b*c", "aXbYbc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("web-*", "xweb-"),
            ("*-web", "a-webs"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    const TEXT: &str = r#"
        [roles.deployer]
        allow = [
            { verbs = ["create", "update"], kinds = ["service"], names = ["web-*"] },
            { verbs = ["grant"], kinds = ["secret"], labels = { team = "web*" } },
        ]
        [roles.all]
        allow = [{ verbs = ["*"], kinds = ["*"] }]
        [[bind]]
        role = "deployer"
        who = ["cert:ann", "uid:1000"]
        [[bind]]
        role = "all"
        who = ["gid:0"]
    "#;

    #[test]
    fn what_no_rule_allows_is_denied() {
        let policy = Policy::parse(TEXT).expect("a policy");
        let ann = caller(Identity::Certificate("ann".into()));
        let bob = caller(Identity::Certificate("bob".into()));
        let user = caller(Identity::User { uid: 1000, gid: 1000 });
        let root = caller(Identity::User { uid: 5, gid: 0 });
        let labels: Labels = [("team".to_owned(), "web-shop".to_owned())].into();
        let service = |name| Target { kind: Kind::Service, name, labels: None };
        let secret = |labels| Target { kind: Kind::Secret, name: "s", labels };
        for who in [&ann, &user, &root] {
            assert!(policy.allows(who, Verb::Create, service("web-1")));
            assert!(policy.allows(who, Verb::Grant, secret(Some(&labels))));
        }
        for who in [&ann, &user, &bob] {
            assert!(!policy.allows(who, Verb::Create, service("db")));
            assert!(!policy.allows(who, Verb::Remove, service("web-1")));
            assert!(!policy.allows(who, Verb::Grant, secret(None)), "a label it does not have");
            assert!(!policy.allows(who, Verb::Read, secret(Some(&labels))));
            assert!(!policy.allows(who, Verb::Use, Target::of(Kind::Engine)));
        }
        assert!(policy.allows(&root, Verb::Use, Target::of(Kind::Engine)));
        assert!(!policy.allows(&caller(Identity::Anyone), Verb::Read, service("web-1")));
        assert!(Policy::default().allows(&bob, Verb::Use, Target::of(Kind::Engine)), "no policy");
    }

    #[test]
    fn a_policy_with_a_fault_is_none() {
        let fault = |text: &str| Policy::parse(text).err().map(|error| error.to_string());
        for (text, why) in [
            ("nonsense", "expected"),
            ("[role.x]", "unknown field"),
            ("[roles.x]\nallow = [{ verbs = [\"see\"], kinds = [\"*\"] }]", "unknown variant"),
            ("[roles.x]\nallow = [{ verbs = [\"read\"] }]", "missing field"),
            ("[roles.x]\nallow = [{ verbs = [], kinds = [\"*\"] }]", "allows nothing"),
            ("[[bind]]\nrole = \"x\"\nwho = [\"*\"]", "no role"),
            ("[roles.x]\nallow = []\n[[bind]]\nrole = \"x\"\nwho = [\"ann\"]", "names nobody"),
            ("[roles.x]\nallow = []\n[[bind]]\nrole = \"x\"\nwho = [\"uid:root\"]", "names nobody"),
        ] {
            let found = fault(text).unwrap_or_default();
            assert!(found.contains(why), "{text}: {found}");
        }
        assert!(Policy::parse("").is_ok_and(|policy| !policy.is_open()), "it allows nothing");
    }
}
