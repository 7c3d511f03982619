//! Addresses of networks: an IPv4 address together with the length of its subnet's prefix.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address and the subnet it lies in, as `10.0.9.3/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: Ipv4Addr,
    /// 0 to 32.
    prefix: u8,
}

impl Cidr {
    /// An address in a subnet; a prefix of more than 32 bits counts as 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Cidr {
        Cidr { address, prefix: prefix.min(32) }
    }

    /// The address.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Bits of the prefix, at most 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The subnet: the same with the lowest address.
    pub fn subnet(self) -> Cidr {
        Cidr { address: self.first(), ..self }
    }

    /// The lowest address of the subnet, which names it.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & !self.host_bits())
    }

    /// The highest address of the subnet, that of its broadcasts.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | self.host_bits())
    }

    /// True when an address lies in the subnet.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first()..=self.last()).contains(&address)
    }

    fn host_bits(self) -> u32 {
        u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Cidr, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let well_formed = prefix.len() <= 2 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| well_formed && *prefix <= 32);
        Ok(Cidr { address: address.parse().map_err(drop)?, prefix: prefix.ok_or(())? })
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cidr, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|()| de::Error::custom("no address with a prefix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_its_first_and_last_address() {
        let bounds = |text: &str| {
            let cidr: Cidr = text.parse().expect(text);
            format!("{} {} {}", cidr.subnet(), cidr.first(), cidr.last())
        };
        assert_eq!(bounds("10.0.9.3/24"), "10.0.9.0/24 10.0.9.0 10.0.9.255");
        assert_eq!(bounds("10.0.9.3/32"), "10.0.9.3/32 10.0.9.3 10.0.9.3");
        assert_eq!(bounds("10.0.9.3/0"), "0.0.0.0/0 0.0.0.0 255.255.255.255");
        assert_eq!(bounds("10.0.9.3/29"), "10.0.9.0/29 10.0.9.0 10.0.9.7");
    }

    #[test]
    fn what_is_no_address_with_a_prefix_is_not_read() {
        for bad in
            ["", "10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0/8", "fd00::/64", "1.2.3.4/+8"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        let read: Cidr = "10.0.9.3/24".parse().expect("an address");
        assert_eq!(read.to_string(), "10.0.9.3/24");
        assert!(read.contains("10.0.9.255".parse().expect("an address")));
        assert!(!read.contains("10.0.10.0".parse().expect("an address")));
    }
}
