//! The addresses of networks: the next free one behind the one that was given out last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use imbl::OrdMap;

use crate::domain::address::Cidr;
use crate::domain::change::Change;
use crate::domain::id::NetworkId;
use crate::domain::network::{Attachment, IpamConfig, Network};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;

/// Addresses as they are given out within one step: what the view knows, and what was given since.
pub(in crate::plan) struct Pools<'v> {
    view: &'v View,
    used: OrdMap<(NetworkId, Ipv4Addr), u32>,
    open: BTreeMap<NetworkId, Pool<'v>>,
}

struct Pool<'v> {
    network: &'v Network,
    subnets: Vec<Subnet>,
    last_given: Option<Ipv4Addr>,
    /// Addresses that were given in this step and not given back.
    kept: usize,
    /// Nothing was free when last looked.
    is_full: bool,
    /// There was no more than the one address that is left for a node.
    is_full_for_tasks: bool,
}

/// A subnet and the part of it that addresses are given from.
struct Subnet {
    prefix: u8,
    from: u32,
    to: u32,
    /// Addresses that are never given out.
    reserved: BTreeSet<u32>,
}

impl<'v> Pools<'v> {
    pub(in crate::plan) fn of(view: &'v View) -> Pools<'v> {
        Pools { view, used: view.addresses().clone(), open: BTreeMap::new() }
    }

    /// A place on an overlay network with an address that nobody has.
    ///
    /// # Errors
    /// There is none; in words for people.
    pub(in crate::plan) fn take(&mut self, network: &'v Network) -> Result<Attachment, String> {
        self.take_sparing(network, false)
    }

    /// The same for a task: the last free address of a network is left for a node, or else tasks
    /// could take all and run nowhere.
    ///
    /// # Errors
    /// There is none, or only that one; in words for people.
    pub(super) fn take_for_task(&mut self, network: &'v Network) -> Result<Attachment, String> {
        self.take_sparing(network, true)
    }

    /// A place on an overlay network with this very address. It may lie outside of the range that
    /// addresses are chosen from.
    ///
    /// # Errors
    /// It lies in no subnet of the network, or is not free.
    pub(super) fn take_this(
        &mut self,
        network: &Network,
        wanted: Ipv4Addr,
    ) -> Result<Attachment, Refusal> {
        let name = &network.spec.name;
        let of_it = network.subnets.iter().filter_map(|config| {
            let own = config.subnet_v4().filter(|own| own.contains(wanted))?;
            Some((own, Subnet::of(config)?))
        });
        let Some((own, subnet)) = of_it.into_iter().next() else {
            return Err(Refusal::invalid(format!(
                "address {wanted} is in no subnet of network {name}"
            )));
        };
        let is_free = ![own.first(), own.last()].contains(&wanted)
            && !subnet.reserved.contains(&wanted.to_bits())
            && self.used.insert((network.id, wanted), 1).is_none();
        match is_free {
            true => Ok(Attachment {
                network: network.id,
                address: Some(Cidr::new(wanted, subnet.prefix)),
            }),
            false => Err(Refusal::store(
                Reason::Conflict,
                format!("address {wanted} of network {name} is taken"),
            )),
        }
    }

    fn take_sparing(
        &mut self,
        network: &'v Network,
        spares_one: bool,
    ) -> Result<Attachment, String> {
        let used = &mut self.used;
        let pool = self.open.entry(network.id).or_insert_with(|| Pool::of(network));
        let is_full = pool.is_full || spares_one && pool.is_full_for_tasks;
        let found = if is_full { None } else { pool.behind(pool.last_given, used) };
        // Searching on behind the only free one ends at itself.
        let is_last = |found: Cidr| pool.behind(Some(found.address()), used) == Some(found);
        let Some(address) = found.filter(|found| !(spares_one && is_last(*found))) else {
            pool.is_full |= found.is_none() && !is_full;
            pool.is_full_for_tasks = true;
            return Err(format!("no free address is left on network {}", network.spec.name));
        };
        used.insert((network.id, address.address()), 1);
        pool.last_given = Some(address.address());
        pool.kept += 1;
        Ok(Attachment { network: network.id, address: Some(address) })
    }

    /// Takes back what was given in this step. A network of which nothing is kept is as it was: or a
    /// step that gives nothing would change it, and the planners were never content.
    pub(in crate::plan) fn give_back(&mut self, places: &[Attachment]) {
        for place in places {
            let Some(address) = place.address else { continue };
            self.used.remove(&(place.network, address.address()));
            if let Some(pool) = self.open.get_mut(&place.network) {
                pool.is_full = false;
                pool.is_full_for_tasks = false;
                pool.kept = pool.kept.saturating_sub(1);
                if pool.kept == 0 {
                    pool.last_given = pool.network.last_given;
                }
            }
        }
    }

    /// The networks that have given out addresses.
    pub(super) fn changes(self) -> impl Iterator<Item = Change> {
        let moved = self.open.into_values().filter(|p| p.last_given != p.network.last_given);
        moved.map(|p| Network { last_given: p.last_given, ..p.network.clone() }.into())
    }

    pub(super) fn view(&self) -> &'v View {
        self.view
    }
}

impl<'v> Pool<'v> {
    fn of(network: &'v Network) -> Pool<'v> {
        Pool {
            network,
            subnets: network.subnets.iter().filter_map(Subnet::of).collect(),
            last_given: network.last_given,
            kept: 0,
            is_full: false,
            is_full_for_tasks: false,
        }
    }

    /// The first free address behind this one, from the start again after the end.
    fn behind(
        &self,
        last: Option<Ipv4Addr>,
        used: &OrdMap<(NetworkId, Ipv4Addr), u32>,
    ) -> Option<Cidr> {
        let id = self.network.id;
        let last = last.map(Ipv4Addr::to_bits);
        let of_last = self
            .subnets
            .iter()
            .position(|subnet| last.is_some_and(|last| (subnet.from..=subnet.to).contains(&last)));
        let (Some(at), Some(last)) = (of_last, last) else {
            return self.subnets.iter().find_map(|s| s.free(id, s.from, s.to, used));
        };
        let (first, rest) = self.subnets.split_at(at);
        let (own, behind) = rest.split_first()?;
        let around = behind.iter().chain(first);
        own.free(id, last + 1, own.to, used)
            .or_else(|| around.into_iter().find_map(|s| s.free(id, s.from, s.to, used)))
            .or_else(|| own.free(id, own.from, last, used))
    }
}

impl Subnet {
    fn of(config: &IpamConfig) -> Option<Subnet> {
        let subnet = config.subnet_v4()?;
        let bounds = (subnet.first().to_bits(), subnet.last().to_bits());
        let range = config.ip_range.parse::<Cidr>().ok().unwrap_or(subnet);
        let names = config.auxiliary_addresses.values().chain([&config.gateway]);
        let reserved = names.filter_map(|text| text.parse::<Ipv4Addr>().ok());
        Some(Subnet {
            prefix: subnet.prefix(),
            // The first address names the subnet, the last one is for broadcasts.
            from: range.first().to_bits().max(bounds.0.saturating_add(1)),
            to: range.last().to_bits().min(bounds.1.saturating_sub(1)),
            reserved: reserved.map(Ipv4Addr::to_bits).collect(),
        })
    }

    /// The lowest free address of these.
    fn free(
        &self,
        id: NetworkId,
        from: u32,
        to: u32,
        used: &OrdMap<(NetworkId, Ipv4Addr), u32>,
    ) -> Option<Cidr> {
        if from > to {
            return None;
        }
        let bounds = (id, Ipv4Addr::from_bits(from))..=(id, Ipv4Addr::from_bits(to));
        let mut taken = used.range(bounds).map(|((_, address), _)| address.to_bits()).peekable();
        for candidate in from..=to {
            if taken.next_if_eq(&candidate).is_none() && !self.reserved.contains(&candidate) {
                return Some(Cidr::new(Ipv4Addr::from_bits(candidate), self.prefix));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::NetworkSpec;

    fn network(subnets: &[(&str, &str)], last_given: Option<&str>) -> Network {
        let config = |(subnet, range): &(&str, &str)| IpamConfig {
            subnet: (*subnet).into(),
            ip_range: (*range).into(),
            gateway: "10.0.0.1".into(),
            ..IpamConfig::default()
        };
        Network {
            id: NetworkId::derive([1; 17]),
            meta: Default::default(),
            spec: NetworkSpec { name: "net".into(), ..NetworkSpec::default() },
            vnis: Vec::new(),
            subnets: subnets.iter().map(config).collect(),
            last_given: last_given.and_then(|text| text.parse().ok()),
            is_removed: false,
        }
    }

    /// What a network gives until it is full, and then once more when `freed` came back.
    fn given(network: &Network, freed: &str) -> String {
        let view = View::default();
        let mut pools = Pools::of(&view);
        let mut given = Vec::new();
        while let Ok(place) = pools.take(network) {
            given.push(place.address.expect("an overlay's").to_string());
        }
        let address = freed.parse().ok();
        pools.give_back(&[Attachment { network: network.id, address }]);
        let again = pools.take(network).ok().and_then(|place| place.address);
        given.extend(again.map(|address| format!("again {address}")));
        given.join(" ")
    }

    #[test]
    fn addresses_go_round() {
        let small = network(&[("10.0.0.0/29", "")], None);
        assert_eq!(
            given(&small, "10.0.0.3/29"),
            "10.0.0.2/29 10.0.0.3/29 10.0.0.4/29 10.0.0.5/29 10.0.0.6/29 again 10.0.0.3/29"
        );
        let later = network(&[("10.0.0.0/29", "")], Some("10.0.0.4"));
        assert!(given(&later, "10.0.0.2/29").starts_with("10.0.0.5/29 10.0.0.6/29 10.0.0.2/29 "));
        let two = network(&[("10.0.0.0/30", ""), ("10.1.0.0/30", "")], Some("10.1.0.1"));
        assert_eq!(
            given(&two, "10.0.0.2/30"),
            "10.1.0.2/30 10.0.0.2/30 10.1.0.1/30 again 10.0.0.2/30"
        );
        let part = network(&[("10.0.0.0/24", "10.0.0.128/31")], Some("10.0.0.7"));
        assert_eq!(
            given(&part, "10.0.0.129/24"),
            "10.0.0.128/24 10.0.0.129/24 again 10.0.0.129/24"
        );
    }

    #[test]
    fn the_last_free_address_is_no_tasks() {
        let view = View::default();
        let mut pools = Pools::of(&view);
        let small = network(&[("10.0.0.0/29", "")], None);
        for _ in 0..4 {
            assert!(pools.take_for_task(&small).is_ok());
        }
        let full = Err("no free address is left on network net".to_owned());
        assert_eq!(pools.take_for_task(&small), full);
        assert_eq!(pools.take_for_task(&small), full);
        assert!(pools.take(&small).is_ok());
        assert_eq!(pools.take(&small), full);
        let [Change::Put(object)] = &pools.changes().collect::<Vec<_>>()[..] else {
            panic!("one network has given")
        };
        let crate::domain::change::Object::Network(network) = object else { panic!("a network") };
        assert_eq!(network.last_given, "10.0.0.6".parse().ok());
    }
}
