//! Networks of the swarm: create, remove.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::address::Cidr;
use crate::domain::change::{Change, Key, Object};
use crate::domain::cluster::Cluster;
use crate::domain::endpoint::EndpointSpec;
use crate::domain::id::NetworkId;
use crate::domain::name::check_service_name;
use crate::domain::network::{
    IpamConfig, LOCAL_DRIVERS, Network, NetworkSpec, PREDEFINED, PREDEFINED_LABEL,
};
use crate::domain::node::Node;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::task::Task;
use crate::domain::view::View;
use crate::plan::{Context, allocator};

/// The most subnets of one network; each is an address space of its own on every node.
const SUBNETS_MAX: usize = 32;

pub(super) fn create(
    view: &View,
    id: NetworkId,
    spec: NetworkSpec,
) -> Result<Vec<Change>, Refusal> {
    let cluster = view.require_cluster()?;
    check(&spec)?;
    if let Some(other) = view.ingress().filter(|_| spec.ingress) {
        let message = format!("ingress network ({}) is already present", other.id);
        return Err(Refusal::store(Reason::Taken, message));
    }
    if let Some(other) = view.network_named(&spec.name) {
        return Err(match other.spec.name == spec.name {
            true => {
                let message = format!("network with name {} already exists", spec.name);
                Refusal::front(Reason::Conflict, message)
            }
            false => Refusal::store(Reason::Unknown, "name conflicts with an existing object"),
        });
    }
    Ok(vec![allocator::give_network(view, cluster, id, spec)?.into()])
}

pub(super) fn remove(view: &View, id: NetworkId) -> Result<Vec<Change>, Refusal> {
    view.require_cluster()?;
    let network = view.network(id).filter(|network| network.is_shown());
    let network = network.ok_or_else(|| Refusal::not_found("network", id.as_str()))?;
    check_unused(view, network)?;
    // What has ended keeps the network on its node for as long as its container is there to be looked at.
    let (over, stopping): (Vec<&Arc<Task>>, Vec<&Arc<Task>>) =
        view.tasks_of_network(id).partition(|task| !task.is_wanted() && is_over(task));
    let mut changes: Vec<Change> =
        over.into_iter().map(|task| Change::Remove(Key::Task(task.id))).collect();
    changes.push(match view.has_addresses(id) || !stopping.is_empty() {
        false => Change::Remove(Key::Network(id)),
        // Tasks that are stopping, and nodes, need it until they have let go of it.
        true => Network { is_removed: true, ..Network::clone(network) }.into(),
    });
    Ok(changes)
}

fn is_over(task: &Task) -> bool {
    task.status.state.is_terminal()
}

fn check_unused(view: &View, network: &Network) -> Result<(), Refusal> {
    let id = network.id;
    let refuse = |message: String| Err(Refusal::store(Reason::Precondition, message));
    if network.spec.ingress {
        let mut services = view.services();
        let user = services.find(|service| {
            let wish = service.spec.endpoint_spec.as_ref();
            wish.is_some_and(EndpointSpec::is_in_mesh)
        });
        return match user {
            None => Ok(()),
            Some(service) => refuse(format!(
                "ingress network cannot be removed because service {} depends on it",
                service.id
            )),
        };
    }
    if let Some(service) = view.services_of_network(id).next() {
        return refuse(format!("network {id} is in use by service {}", service.id));
    }
    let is_user = |task: &Task| {
        let names = task.spec.networks.iter().any(|network| network.target == id.as_str());
        let has = || task.networks.iter().any(|place| place.network == id);
        // Those of a service that was just removed are about to stop. Attachments are of none.
        let is_alone = task.service_id.is_some_and(|id| view.service(id).is_none());
        task.is_live() && !is_alone && (names || has())
    };
    match view.tasks().find(|task| is_user(task)) {
        None => Ok(()),
        Some(task) => refuse(format!("network {id} is in use by task {}", task.id)),
    }
}

/// The networks of a new swarm, and its first node with its place on them.
///
/// # Errors
/// The address pools have no room for one.
pub(super) fn of_new_swarm(
    cluster: &Cluster,
    node: Node,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let first = first_networks(cluster, ctx)?;
    let mut view = View::default();
    first.iter().for_each(|network| view.load(network));
    let (node, given) = allocator::welcome(&view, node);
    let networks = first.into_iter().map(Change::Put);
    // What gave an address stands in place of what had not.
    Ok(networks.chain([node.into()]).chain(given).collect())
}

/// The same networks for a swarm that was made before there were any.
///
/// # Errors
/// As above.
pub(super) fn provide(view: &View, ctx: Context<'_>) -> Result<Vec<Change>, Refusal> {
    let cluster = view.require_cluster()?;
    if view.networks().len() > 0 {
        return Ok(Vec::new());
    }
    Ok(first_networks(cluster, ctx)?.into_iter().map(Change::Put).collect())
}

/// One network for the routing mesh, and one for each that every engine has.
fn first_networks(cluster: &Cluster, ctx: Context<'_>) -> Result<Vec<Object>, Refusal> {
    let predefined = PREDEFINED.iter().map(|(name, driver)| NetworkSpec::predefined(name, driver));
    let specs = std::iter::once(NetworkSpec::ingress()).chain(predefined);
    let made = specs.map(|spec| {
        let id = NetworkId::make(ctx.entropy);
        // Only the first needs a subnet, so none has to know of another.
        allocator::give_network(&View::default(), cluster, id, spec).map(Object::from)
    });
    made.collect()
}

fn check(spec: &NetworkSpec) -> Result<(), Refusal> {
    if spec.ingress && !spec.is_overlay() {
        return Err(Refusal::store(
            Reason::Unsupported,
            "only overlay driver is currently supported for ingress network",
        ));
    }
    if spec.attachable && spec.ingress {
        return Err(Refusal::invalid("ingress network cannot be attachable"));
    }
    check_service_name(&spec.name)?;
    if spec.labels.contains_key(PREDEFINED_LABEL) {
        return Err(Refusal::store(
            Reason::Forbidden,
            format!(
                "label {PREDEFINED_LABEL} is for internally created predefined networks and \
                 cannot be applied by users"
            ),
        ));
    }
    if !spec.is_overlay() && !LOCAL_DRIVERS.contains(&spec.driver.as_str()) {
        let message = format!("network driver {:?} is not supported in a swarm", spec.driver);
        return Err(Refusal::front(Reason::Unsupported, message));
    }
    let has_ipv6 = |config: &IpamConfig| config.subnet.contains(':');
    if spec.is_overlay() && (spec.enable_ipv6 || spec.ipam.config.iter().any(has_ipv6)) {
        return Err(Refusal::front(
            Reason::Unsupported,
            "IPv6 is not supported on overlay networks: their nodes would give the same addresses to \
             several tasks",
        ));
    }
    check_ipam(spec)
}

fn check_ipam(spec: &NetworkSpec) -> Result<(), Refusal> {
    if !matches!(spec.ipam.driver.as_str(), "" | "default") {
        let message = format!("IPAM driver {:?} is not supported in a swarm", spec.ipam.driver);
        return Err(Refusal::front(Reason::Unsupported, message));
    }
    if spec.ipam.config.len() > SUBNETS_MAX {
        return Err(invalid(format!("more than {SUBNETS_MAX} subnets")));
    }
    spec.ipam.config.iter().try_for_each(check_subnet)
}

fn check_subnet(config: &IpamConfig) -> Result<(), Refusal> {
    let text = &config.subnet;
    let subnet = Subnet::parse(text).ok_or_else(|| invalid(format!("invalid subnet {text}")))?;
    let range = &config.ip_range;
    if !range.is_empty() {
        let inner =
            Subnet::parse(range).ok_or_else(|| invalid(format!("invalid range {range}")))?;
        if !subnet.contains(inner.first()) || inner.prefix < subnet.prefix {
            return Err(invalid(format!("subnet {text} does not contain range {range}")));
        }
    }
    check_within(&subnet, text, "gateway", &config.gateway)?;
    let named = config.auxiliary_addresses.values();
    named.map(String::as_str).try_for_each(|address| {
        if address.is_empty() {
            return Err(invalid("invalid auxiliary address ".to_owned()));
        }
        check_within(&subnet, text, "auxiliary address", address)
    })
}

fn check_within(subnet: &Subnet, text: &str, word: &str, address: &str) -> Result<(), Refusal> {
    if address.is_empty() {
        return Ok(());
    }
    let parsed = address.parse::<IpAddr>();
    let parsed = parsed.map_err(|_| invalid(format!("invalid {word} {address}")))?;
    match subnet.contains(parsed) {
        true => Ok(()),
        false => Err(invalid(format!("subnet {text} does not contain {word} {address}"))),
    }
}

fn invalid(what: String) -> Refusal {
    Refusal::invalid(format!("ipam configuration: {what}"))
}

/// A subnet of either family.
struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    fn parse(text: &str) -> Option<Subnet> {
        if let Ok(cidr) = text.parse::<Cidr>() {
            return Some(Subnet { address: cidr.address().into(), prefix: cidr.prefix() });
        }
        let (address, prefix) = text.split_once('/')?;
        let address = address.parse::<std::net::Ipv6Addr>().ok()?;
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| is_number && *prefix <= 128)?;
        Some(Subnet { address: address.into(), prefix })
    }

    fn first(&self) -> IpAddr {
        self.address
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => Cidr::new(own, self.prefix).contains(other),
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let rest = 128 - u32::from(self.prefix);
                let common = |address: u128| address.checked_shr(rest).unwrap_or(0);
                common(own.to_bits()) == common(other.to_bits())
            }
            _ => false,
        }
    }
}
