//! What the operating system knows: names of users, this machine's addresses, names of hosts. All of it blocks.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use nix::unistd::{Uid, User};

use crate::auth::hba::Interface;

/// The name of a user; the error says why there is none.
pub(super) fn user_name(uid: u32) -> Result<String, String> {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err("user does not exist".to_owned()),
        Err(error) => Err(error.desc().to_owned()),
    }
}

/// The addresses of all interfaces, with their networks.
pub(super) fn interfaces() -> Vec<Interface> {
    let found = match getifaddrs() {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "cannot find out this machine's addresses (samehost, samenet)");
            return Vec::new();
        }
    };
    found
        .filter_map(|interface| {
            Some(Interface {
                address: address(&interface.address?)?,
                mask: address(&interface.netmask?)?,
            })
        })
        .collect()
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The name of a host, if it leads back to the address: anybody may give their address any name.
pub(super) fn host_name(address: IpAddr) -> Option<String> {
    let (name, _) = dns_lookup::getnameinfo(&SocketAddr::new(address, 0), nix::libc::NI_NAMEREQD).ok()?;
    let mut found = (name.as_str(), 0).to_socket_addrs().ok()?;
    found
        .any(|found| found.ip().to_canonical() == address)
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superuser_has_a_name_and_others_may_have_none() {
        assert_eq!(user_name(0), Ok("root".to_owned()));
        assert_eq!(user_name(u32::MAX - 7), Err("user does not exist".to_owned()));
    }

    #[test]
    fn this_machine_has_its_own_addresses() {
        let loopback = Interface {
            address: "127.0.0.1".parse().unwrap(),
            mask: "255.0.0.0".parse().unwrap(),
        };
        assert!(interfaces().contains(&loopback), "{:?}", interfaces());
    }

    #[test]
    fn names_must_lead_back() {
        assert_eq!(
            host_name("127.0.0.1".parse().unwrap()).as_deref(),
            Some("localhost")
        );
        // Set aside for documentation, so that nobody has it.
        assert_eq!(host_name("192.0.2.1".parse().unwrap()), None);
    }
}
