//! The address field: networks, and words and names that stand for some.

use std::net::IpAddr;

use super::super::tables::Word;

/// Where a rule's visitors come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    /// `all`
    Everywhere,
    /// `samehost`: any address of this machine.
    SameHost,
    /// `samenet`: any network that this machine is connected to.
    SameNet,
    /// Those that are like `address` where `mask` has ones.
    Net { address: IpAddr, mask: IpAddr },
    /// Those whose host has this name, or, if it begins with a dot, a name with this end.
    Name(String),
}

/// An address of this machine, and the network around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Has ones where addresses of its network are alike.
    pub mask: IpAddr,
}

impl Interface {
    /// Whether the address is this one.
    pub(super) fn is(&self, address: IpAddr) -> bool {
        self.address == address
    }

    /// Whether the address belongs to this network.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        is_within(address, self.address, self.mask)
    }
}

/// Whether two addresses are of one family and alike where `mask` has ones.
pub(super) fn is_within(address: IpAddr, network: IpAddr, mask: IpAddr) -> bool {
    match (address, network, mask) {
        (IpAddr::V4(address), IpAddr::V4(network), IpAddr::V4(mask)) => {
            (address.to_bits() ^ network.to_bits()) & mask.to_bits() == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network), IpAddr::V6(mask)) => {
            (address.to_bits() ^ network.to_bits()) & mask.to_bits() == 0
        }
        _ => false,
    }
}

/// Whether a host of this name is meant. Names have no case.
pub(super) fn is_named(wanted: &str, name: &str) -> bool {
    if !wanted.starts_with('.') {
        return wanted.eq_ignore_ascii_case(name);
    }
    let start = name.len().checked_sub(wanted.len());
    start
        .and_then(|start| name.get(start..))
        .is_some_and(|end| end.eq_ignore_ascii_case(wanted))
}

/// Reads the field, and the one after it where that is the mask, which `next` gives.
pub(super) fn addresses<'a>(
    word: &Word,
    next: impl FnOnce() -> Result<&'a Word, String>,
) -> Result<Addresses, String> {
    for (keyword, addresses) in [
        ("all", Addresses::Everywhere),
        ("samehost", Addresses::SameHost),
        ("samenet", Addresses::SameNet),
    ] {
        if word.is(keyword) {
            return Ok(addresses);
        }
    }
    let text = &word.text;
    let (host, bits) = match text.split_once('/') {
        Some((host, bits)) => (host, Some(bits)),
        None => (text.as_str(), None),
    };
    match (host.parse::<IpAddr>(), bits) {
        (Ok(address), Some(bits)) => {
            let mask =
                mask_of(address, bits).ok_or_else(|| format!("invalid CIDR mask in address \"{text}\""))?;
            Ok(Addresses::Net { address, mask })
        }
        (Ok(address), None) => {
            let mask = &next()?.text;
            let mask: IpAddr = mask.parse().map_err(|_| format!("invalid IP mask \"{mask}\""))?;
            if address.is_ipv4() != mask.is_ipv4() {
                return Err("IP address and mask do not match".to_owned());
            }
            Ok(Addresses::Net { address, mask })
        }
        (Err(_), _) if !can_be_name(host) => Err(format!("invalid IP address \"{host}\"")),
        (Err(_), Some(_)) => Err(format!(
            "specifying both host name and CIDR mask is invalid: \"{text}\""
        )),
        (Err(_), None) => Ok(Addresses::Name(host.to_owned())),
    }
}

/// Whether it can name a host: what ends in a number or has a colon was meant for an address.
fn can_be_name(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    !host.contains([':', '%']) && !last.is_empty() && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// The mask with so many ones.
fn mask_of(address: IpAddr, bits: &str) -> Option<IpAddr> {
    let bits: u32 = bits.parse().ok()?;
    Some(match address {
        IpAddr::V4(_) => {
            let zeros = u32::BITS.checked_sub(bits)?;
            IpAddr::V4(u32::MAX.checked_shl(zeros).unwrap_or(0).into())
        }
        IpAddr::V6(_) => {
            let zeros = u128::BITS.checked_sub(bits)?;
            IpAddr::V6(u128::MAX.checked_shl(zeros).unwrap_or(0).into())
        }
    })
}
