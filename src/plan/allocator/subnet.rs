//! What a new network is given: a subnet that no other has, with its gateway, and VXLAN numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::domain::address::Cidr;
use crate::domain::cluster::{ADDRESS_POOL_DEFAULT, Cluster, SUBNET_SIZE_DEFAULT};
use crate::domain::id::NetworkId;
use crate::domain::network::{IpamConfig, Network, NetworkSpec, VNI_OPTION};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;

/// The lowest VXLAN number that is given to a network that asks for none.
pub const VNI_MIN: u32 = 4096;
/// The highest VXLAN number there is.
pub const VNI_MAX: u32 = (1 << 24) - 1;
/// The longest prefix of a subnet: one address for the gateway and one for whoever comes.
const PREFIX_MAX: u8 = 30;

/// A network as it is stored: with the subnets and numbers that its spec leaves open.
///
/// # Errors
/// A subnet or number is another network's, or there is none left.
pub fn give(
    view: &View,
    cluster: &Cluster,
    id: NetworkId,
    spec: NetworkSpec,
) -> Result<Network, Refusal> {
    let (subnets, vnis) = match spec.is_overlay() {
        true => {
            let subnets = give_subnets(view, cluster, &spec)?;
            let count = subnets.iter().filter(|config| config.subnet_v4().is_some()).count();
            let vnis = give_vnis(view, &spec, count)?;
            (subnets, vnis)
        }
        // Each node has its own, by its own means.
        false => (Vec::new(), Vec::new()),
    };
    let meta = Default::default();
    Ok(Network { id, meta, spec, vnis, subnets, last_given: None, is_removed: false })
}

fn give_subnets(
    view: &View,
    cluster: &Cluster,
    spec: &NetworkSpec,
) -> Result<Vec<IpamConfig>, Refusal> {
    let mut taken = Taken::of(view);
    let mut subnets = Vec::with_capacity(spec.ipam.config.len() + 1);
    for config in &spec.ipam.config {
        let Some(subnet) = config.subnet_v4() else {
            subnets.push(config.clone());
            continue;
        };
        if let Some((other, name)) = taken.overlap(subnet) {
            let of = if name.is_empty() { String::new() } else { format!(" of network {name}") };
            return Err(ipam(format!("subnet {subnet} overlaps with {other}{of}")));
        }
        if subnet.prefix() > PREFIX_MAX {
            return Err(ipam(format!("subnet {subnet} has no room for a gateway and a task")));
        }
        taken.add(subnet, "");
        subnets.push(with_gateway(config, subnet));
    }
    if subnets.iter().all(|config| config.subnet_v4().is_none()) {
        let subnet = match taken.of_namesake(view, spec) {
            Some(subnet) => subnet,
            None => {
                view.removed_networks().for_each(|network| taken.add_all(network));
                taken.find_free(cluster)?
            }
        };
        subnets.insert(0, with_gateway(&IpamConfig::default(), subnet));
    }
    Ok(subnets)
}

fn ipam(what: String) -> Refusal {
    Refusal::invalid(format!("ipam configuration: {what}"))
}

fn with_gateway(config: &IpamConfig, subnet: Cidr) -> IpamConfig {
    let mut given = IpamConfig { subnet: subnet.to_string(), ..config.clone() };
    if given.gateway.is_empty() {
        given.gateway = Ipv4Addr::from_bits(subnet.first().to_bits() + 1).to_string();
    }
    given
}

/// Subnets that networks have, by their first address; none overlaps with another. Those of networks that
/// are removed may be had again: a node that has one still refuses the other until it is gone.
struct Taken<'v>(BTreeMap<Ipv4Addr, (Cidr, &'v str)>);

impl<'v> Taken<'v> {
    fn of(view: &'v View) -> Taken<'v> {
        let mut taken = Taken(BTreeMap::new());
        for network in view.networks().filter(|network| !network.is_removed) {
            taken.add_all(network);
        }
        taken
    }

    fn add_all(&mut self, network: &'v Network) {
        for subnet in network.subnets.iter().filter_map(IpamConfig::subnet_v4) {
            self.add(subnet, &network.spec.name);
        }
    }

    /// The subnet of a removed network that nodes may have still under the same name.
    fn of_namesake(&self, view: &View, spec: &NetworkSpec) -> Option<Cidr> {
        let mut removed = view.removed_networks();
        let namesake = removed.find(|removed| removed.spec.name == spec.name)?;
        let mut subnets = namesake.subnets.iter().filter_map(IpamConfig::subnet_v4);
        subnets.find(|subnet| self.overlap(*subnet).is_none())
    }

    fn add(&mut self, subnet: Cidr, name: &'v str) {
        self.0.insert(subnet.first(), (subnet, name));
    }

    fn overlap(&self, subnet: Cidr) -> Option<(Cidr, &'v str)> {
        let (_, last) = self.0.range(..=subnet.last()).next_back()?;
        (last.0.last() >= subnet.first()).then_some(*last)
    }

    /// The first free subnet in the swarm's pools.
    fn find_free(&self, cluster: &Cluster) -> Result<Cidr, Refusal> {
        let default = [ADDRESS_POOL_DEFAULT.to_owned()];
        let pools = match cluster.default_addr_pool.is_empty() {
            true => &default[..],
            false => &cluster.default_addr_pool,
        };
        let prefix = u8::try_from(cluster.subnet_size).unwrap_or(PREFIX_MAX);
        let prefix = match prefix {
            0 => u8::try_from(SUBNET_SIZE_DEFAULT).unwrap_or(PREFIX_MAX),
            prefix => prefix.min(PREFIX_MAX),
        };
        let free = pools
            .iter()
            .filter_map(|pool| pool.parse::<Cidr>().ok())
            .find_map(|pool| self.find_free_in(pool, prefix));
        free.ok_or_else(|| {
            let pools = pools.join(", ");
            let message = format!("no free subnet with a prefix of {prefix} is left in {pools}");
            Refusal::store(Reason::Exhausted, message)
        })
    }

    fn find_free_in(&self, pool: Cidr, prefix: u8) -> Option<Cidr> {
        let mut subnet = Cidr::new(pool.first(), prefix);
        while pool.contains(subnet.last()) {
            let Some((other, _)) = self.overlap(subnet) else { return Some(subnet) };
            let behind = other.last().max(subnet.last()).to_bits().checked_add(1)?;
            subnet = Cidr::new(Ipv4Addr::from_bits(behind), prefix).subnet();
        }
        None
    }
}

/// The VXLAN numbers of a network with so many IPv4 subnets.
fn give_vnis(view: &View, spec: &NetworkSpec, count: usize) -> Result<Vec<u32>, Refusal> {
    let taken: BTreeSet<u32> =
        view.networks().flat_map(|network| network.vnis.iter().copied()).collect();
    let mut vnis = match spec.options.get(VNI_OPTION) {
        None => Vec::new(),
        Some(text) => asked_vnis(text)?,
    };
    vnis.truncate(count);
    if let Some(vni) = vnis.iter().find(|vni| taken.contains(vni)) {
        let message = format!("VXLAN number {vni} is that of another network");
        return Err(Refusal::invalid(message));
    }
    let missing = count - vnis.len();
    let free = (VNI_MIN..=VNI_MAX).filter(|vni| !taken.contains(vni) && !vnis.contains(vni));
    let free: Vec<u32> = free.take(missing).collect();
    if free.len() < missing {
        return Err(Refusal::store(Reason::Exhausted, "no free VXLAN number is left"));
    }
    vnis.extend(free);
    Ok(vnis)
}

fn asked_vnis(text: &str) -> Result<Vec<u32>, Refusal> {
    let vnis: Option<Vec<u32>> = text
        .split(',')
        .map(|number| number.trim().parse().ok().filter(|vni| (1..=VNI_MAX).contains(vni)))
        .collect();
    let vnis = vnis.unwrap_or_default();
    let distinct: BTreeSet<u32> = vnis.iter().copied().collect();
    if vnis.is_empty() || distinct.len() < vnis.len() {
        return Err(Refusal::invalid(format!("invalid list of VXLAN numbers {text:?}")));
    }
    Ok(vnis)
}
