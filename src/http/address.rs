//! Addresses of a new swarm: an IP address or the name of an interface, with or without a port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::error::Failure;

/// Port of the nodes' door when none is given.
const DOOR_PORT: u16 = 2377;

/// Where to listen.
///
/// # Errors
/// Empty, or neither an address nor an interface.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Failure> {
    if text.is_empty() {
        return Err(Failure::invalid("invalid ListenAddr \"\": invalid empty address"));
    }
    parse(text, DOOR_PORT).ok_or_else(|| {
        Failure::invalid(
            "listen address must be an IP address or network interface (with optional port number)",
        )
    })
}

/// What to tell nodes; by default the address that is listened on, or the one address of this host.
///
/// # Errors
/// Neither an address nor an interface, or there is none or more than one to choose from.
pub(super) fn advertise(text: &str, listen: SocketAddr) -> Result<SocketAddr, Failure> {
    if text.is_empty() {
        let ip = match listen.ip().is_unspecified() {
            true => own_address()?,
            false => listen.ip(),
        };
        return Ok(SocketAddr::new(ip, listen.port()));
    }
    parse(text, listen.port()).filter(|addr| !addr.ip().is_unspecified()).ok_or_else(|| {
        Failure::invalid(
            "advertise address must be a non-zero IP address or network interface (with optional \
             port number)",
        )
    })
}

/// Checks the address of overlay traffic.
///
/// # Errors
/// Neither an address nor an interface, or with a port.
pub(super) fn check_data_path(text: &str) -> Result<(), Failure> {
    let ip = text.parse::<IpAddr>().ok().or_else(|| interface(text));
    if text.is_empty() || ip.is_some_and(|ip| !ip.is_unspecified()) {
        return Ok(());
    }
    Err(Failure::invalid(
        "data path address must be a non-zero IP address or network interface (without a port \
         number)",
    ))
}

/// Checks the pools of overlay networks against the size of subnets.
///
/// # Errors
/// The Engine's text.
pub(super) fn check_pools(pools: &[String], subnet_size: u32) -> Result<(), String> {
    if subnet_size > 29 {
        return Err(format!("subnet size is out of range: {subnet_size}"));
    }
    for pool in pools {
        let prefix = pool.split_once('/').and_then(|(address, prefix)| {
            address.parse::<Ipv4Addr>().ok().and(prefix.parse::<u32>().ok())
        });
        let Some(prefix) = prefix.filter(|prefix| *prefix <= 32) else {
            return Err(format!("invalid CIDR address: {pool}"));
        };
        if subnet_size < prefix {
            return Err(format!(
                "invalid CIDR: {pool:?}. Subnet size is too small for pool: {subnet_size}"
            ));
        }
    }
    Ok(())
}

fn parse(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Some(addr);
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (text, port),
    };
    interface(name).map(|ip| SocketAddr::new(ip, port))
}

/// The address of an interface.
fn interface(name: &str) -> Option<IpAddr> {
    addresses().into_iter().find(|(known, _)| known == name).map(|(_, ip)| ip)
}

/// The one address of this host: not of the loopback, and not of a bridge that an engine made.
fn own_address() -> Result<IpAddr, Failure> {
    let made_by_engines = ["docker", "br-", "veth"];
    let found: Vec<(String, IpAddr)> = addresses()
        .into_iter()
        .filter(|(name, ip)| {
            !ip.is_loopback() && !made_by_engines.iter().any(|made| name.starts_with(made))
        })
        .collect();
    match &found[..] {
        [] => Err(Failure::invalid("could not find the system's IP address")),
        [(_, ip)] => Ok(*ip),
        [(name, ip), (other_name, other_ip), ..] => Err(Failure::invalid(format!(
            "could not choose an IP address to advertise since this system has multiple addresses \
             on different interfaces ({ip} on {name} and {other_ip} on {other_name})"
        ))),
    }
}

/// The IPv4 addresses of this host with their interfaces.
fn addresses() -> Vec<(String, IpAddr)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|entry| {
        let ip = entry.address?.as_sockaddr_in()?.ip();
        Some((entry.interface_name, IpAddr::V4(ip)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_with_and_without_ports() {
        let text = |text: &str| parse(text, 2377).map(|addr| addr.to_string());
        assert_eq!(text("10.0.0.1").as_deref(), Some("10.0.0.1:2377"));
        assert_eq!(text("10.0.0.1:99").as_deref(), Some("10.0.0.1:99"));
        assert_eq!(text("[::1]:99").as_deref(), Some("[::1]:99"));
        assert_eq!(text("lo").as_deref(), Some("127.0.0.1:2377"));
        assert_eq!(text("lo:99").as_deref(), Some("127.0.0.1:99"));
        assert_eq!(text("no such interface"), None);
    }

    #[test]
    fn pools_and_subnets_have_to_fit() {
        let check = |pool: &str, size| check_pools(&[pool.to_owned()], size);
        assert_eq!(check("10.0.0.0/8", 24), Ok(()));
        assert_eq!(check("10.0.0.0/8", 33), Err("subnet size is out of range: 33".into()));
        let small = "invalid CIDR: \"10.0.0.0/8\". Subnet size is too small for pool: 7";
        assert_eq!(check("10.0.0.0/8", 7), Err(small.into()));
    }
}
