//! Finding what a path names: a full id, a name, or the beginning of an id.

use std::sync::Arc;

use imbl::OrdMap;

use super::View;
use crate::domain::config::Config;
use crate::domain::id::{Id, NodeId};
use crate::domain::network::Network;
use crate::domain::node::Node;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::secret::Secret;
use crate::domain::service::Service;
use crate::domain::task::Task;

impl View {
    /// The service a path names: by full id, then by name in its exact case, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_service(&self, wanted: &str) -> Result<&Arc<Service>, Refusal> {
        let named = self.service_named(wanted).filter(|service| service.spec.name == wanted);
        find("service", &self.services, wanted, named)
    }

    /// The secret a path names: by full id, then by name ignoring case, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_secret(&self, wanted: &str) -> Result<&Arc<Secret>, Refusal> {
        find("secret", &self.secrets, wanted, self.secret_named(wanted))
    }

    /// The config a path names: by full id, then by name ignoring case, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_config(&self, wanted: &str) -> Result<&Arc<Config>, Refusal> {
        find("config", &self.configs, wanted, self.config_named(wanted))
    }

    /// The node a path names: by full id, then by host name, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by host name or prefix.
    pub fn find_node(&self, wanted: &str) -> Result<&Arc<Node>, Refusal> {
        let mut named =
            self.nodes.values().filter(|node| !wanted.is_empty() && node.hostname() == wanted);
        let first = named.next();
        let more = named.count();
        if more > 0 && wanted.parse::<NodeId>().ok().and_then(|id| self.node(id)).is_none() {
            return Err(ambiguous("node", wanted, more + 1));
        }
        find("node", &self.nodes, wanted, first)
    }

    /// The task a path names: by full id, then by full task name, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_task(&self, wanted: &str) -> Result<&Arc<Task>, Refusal> {
        let named = wanted
            .rsplit_once('.')
            .and_then(|(_, id)| self.task(id.parse().ok()?))
            .filter(|task| task.name() == wanted);
        find("task", &self.tasks, wanted, named)
    }

    /// The network a path names: by full id, then by name in its exact case, then by id prefix.
    /// One that stands for a network of every engine is found by its full id only, one that is removed
    /// not at all.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_network(&self, wanted: &str) -> Result<&Arc<Network>, Refusal> {
        let by_id = wanted.parse().ok().and_then(|id| self.network(id));
        if let Some(network) = by_id.filter(|network| !network.is_removed) {
            return Ok(network);
        }
        let named = self.network_named(wanted).filter(|network| network.spec.name == wanted);
        let is_shown = |network: &Network| network.is_shown();
        find_among("network", &self.networks, wanted, named, is_shown)
    }

    /// The same, and the names of the networks that every engine has stand for those of the swarm in
    /// their place.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn look_up_network(&self, wanted: &str) -> Result<&Arc<Network>, Refusal> {
        let named = self.network_named(wanted).filter(|network| network.spec.name == wanted);
        if let Some(network) = named.filter(|network| network.spec.is_predefined()) {
            return Ok(network);
        }
        self.find_network(wanted)
    }

    /// The network that a service means, looked up as above.
    ///
    /// # Errors
    /// None, in the Engine's class for services, or more than one by the prefix.
    pub fn resolve_network(&self, wanted: &str) -> Result<&Arc<Network>, Refusal> {
        self.look_up_network(wanted).map_err(|refusal| match refusal.reason {
            // The Engine does not look for what kind of failure this is.
            Reason::NotFound => Refusal { reason: Reason::Unknown, ..refusal },
            _ => refusal,
        })
    }
}

fn find<'v, K, T>(
    word: &str,
    objects: &'v OrdMap<Id<K>, Arc<T>>,
    wanted: &str,
    named: Option<&'v Arc<T>>,
) -> Result<&'v Arc<T>, Refusal> {
    find_among(word, objects, wanted, named, |_| true)
}

fn find_among<'v, K, T>(
    word: &str,
    objects: &'v OrdMap<Id<K>, Arc<T>>,
    wanted: &str,
    named: Option<&'v Arc<T>>,
    is_shown: impl Fn(&T) -> bool,
) -> Result<&'v Arc<T>, Refusal> {
    let by_id = wanted.parse::<Id<K>>().ok().and_then(|id| objects.get(&id));
    if let Some(object) = by_id.or(named).filter(|object| is_shown(object)) {
        return Ok(object);
    }
    let Some(lowest) = Id::lowest_with(wanted) else {
        return Err(Refusal::not_found(word, wanted));
    };
    let mut matches = objects
        .range(lowest..)
        .take_while(|(id, _)| id.as_str().starts_with(wanted))
        .filter(|(_, object)| is_shown(object));
    match (matches.next(), matches.count()) {
        (None, _) => Err(Refusal::not_found(word, wanted)),
        (Some((_, object)), 0) => Ok(object),
        (Some(_), more) => Err(ambiguous(word, wanted, more + 1)),
    }
}

fn ambiguous(word: &str, wanted: &str, count: usize) -> Refusal {
    Refusal::front(Reason::Invalid, format!("{word} {wanted} is ambiguous ({count} matches found)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::{Change, Key};
    use crate::domain::meta::{Stamp, Version};
    use crate::domain::secret::{Fingerprint, SecretSpec};
    use crate::domain::time::Timestamp;

    fn secret(id: &str, name: &str) -> Secret {
        Secret {
            revisions: Default::default(),
            id: id.parse().expect("a test id"),
            meta: Default::default(),
            spec: SecretSpec { name: name.into(), ..Default::default() },
            fingerprint: Fingerprint([0; 32]),
            shown: Default::default(),
        }
    }

    fn view(changes: &[Change]) -> View {
        let mut view = View::default();
        let version = Version { index: 7 };
        view.apply(changes, Stamp { version, now: Timestamp::ZERO });
        view
    }

    const FIRST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaa";
    const SECOND: &str = "aaaaaaaaaaaaaaaaaaaaaaaab";

    #[test]
    fn a_path_is_an_id_then_a_name_then_a_prefix() {
        let view = view(&[secret(FIRST, "One").into(), secret(SECOND, "aaaa").into()]);
        let found = |wanted: &str| view.find_secret(wanted).map(|secret| secret.id.to_string());
        assert_eq!(found(FIRST), Ok(FIRST.into()));
        assert_eq!(found("oNE"), Ok(FIRST.into()));
        assert_eq!(found("aaaa"), Ok(SECOND.into()), "a name wins over a prefix");
        assert_eq!(found(&FIRST[..25]), Ok(FIRST.into()));
        let message = |wanted: &str| view.find_secret(wanted).map_err(|refusal| refusal.message);
        assert_eq!(message("a"), Err("secret a is ambiguous (2 matches found)".into()));
        assert_eq!(message("b"), Err("secret b not found".into()));
        assert_eq!(message("A"), Err("secret A not found".into()), "ids have one case");
    }

    #[test]
    fn removing_an_object_leaves_no_index_behind() {
        let mut view = view(&[secret(FIRST, "One").into()]);
        let key = Key::Secret(FIRST.parse().expect("a test id"));
        let stamp = Stamp { version: Version { index: 8 }, now: Timestamp::ZERO };
        let changed = view.apply(&[Change::Remove(key)], stamp);
        assert!(changed[0].old.is_some() && changed[0].new.is_none());
        assert!(view.secret_named("one").is_none());
        assert_eq!(view.objects().count(), 0);
    }
}
