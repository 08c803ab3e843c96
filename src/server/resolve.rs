//! Names to addresses, remembered for a while.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Addresses of host names, looked up by the system's resolver and kept for `dns_max_ttl`.
#[derive(Debug)]
pub struct Resolver {
    ttl: Mutex<Duration>,
    found: Mutex<BTreeMap<String, Found>>,
}

#[derive(Clone, Debug)]
struct Found {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// A row of `SHOW DNS_HOSTS`.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The name that was looked up.
    pub name: String,
    /// How long the answer is still good for.
    pub ttl: Duration,
    /// The answer.
    pub addresses: Vec<IpAddr>,
}

impl Resolver {
    /// An empty memory.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl: Mutex::new(ttl),
            found: Mutex::default(),
        }
    }

    /// How long answers are kept from now on.
    pub fn set_ttl(&self, ttl: Duration) {
        *self.ttl.lock() = ttl;
    }

    /// The addresses of a host: at least one, or an error.
    pub async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known = self.found.lock().get(host).cloned();
        if let Some(known) = known.filter(|known| known.until > Instant::now()) {
            return Ok(known.addresses);
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for found in tokio::net::lookup_host((host, 0)).await? {
            if !addresses.contains(&found.ip()) {
                addresses.push(found.ip());
            }
        }
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("host \"{host}\" has no address"),
            ));
        }
        let until = Instant::now() + *self.ttl.lock();
        self.found.lock().insert(
            host.to_owned(),
            Found {
                addresses: addresses.clone(),
                until,
            },
        );
        Ok(addresses)
    }

    /// What is remembered.
    pub fn lookups(&self) -> Vec<Lookup> {
        let now = Instant::now();
        let found = self.found.lock();
        found
            .iter()
            .map(|(name, found)| Lookup {
                name: name.clone(),
                ttl: found.until.saturating_duration_since(now),
                addresses: found.addresses.clone(),
            })
            .collect()
    }
}
