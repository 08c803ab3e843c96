//! Who is asked about somebody who logs in, where howdah does not know by itself: the operating system, PAM, an LDAP
//! server, the names of hosts.
//!
//! All of them may be slow, or never answer. So each question has a time limit, there are so many at once at most, and
//! what blocks does so on a thread beside the workers. A thread that hangs keeps its place until it is done, however long
//! ago the one who asked has given up.

mod aside;
#[cfg(feature = "ldap")]
mod ldap;
#[cfg(feature = "pam")]
mod pam;
mod system;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::auth::Password;
use crate::auth::hba::{HostName, Interface, Ldap, Method};
use crate::net::tls::Connector;
use crate::server::Resolver;
use aside::Aside;

/// Questions about this machine at once.
const LOOKUPS_MAX: usize = 8;
/// Questions about names of hosts at once. They are apart, because strangers decide how long an answer takes.
const NAMES_MAX: usize = 16;
/// Questions to PAM at once. Its modules may keep a thread busy for seconds.
const PAM_MAX: usize = 8;
/// Connections to LDAP servers at once.
const LDAP_MAX: usize = 32;

/// All who can be asked.
pub struct Authorities {
    lookups: Aside,
    names: Aside,
    #[cfg_attr(not(feature = "pam"), expect(dead_code, reason = "this build asks nobody"))]
    pam: Aside,
    #[cfg_attr(not(feature = "ldap"), expect(dead_code, reason = "this build asks nobody"))]
    ldap: Semaphore,
    #[cfg_attr(not(feature = "ldap"), expect(dead_code, reason = "this build asks nobody"))]
    resolver: Arc<Resolver>,
}

/// Why nobody has vouched for somebody; for the log, not for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The answer is no.
    #[error("{0}")]
    Refused(String),
    /// There is no answer.
    #[error("{0}")]
    NoAnswer(String),
}

/// What PAM is told about somebody.
#[derive(Clone, Debug)]
pub struct PamQuestion {
    /// The service, which names the file with the rules.
    pub service: String,
    /// The user.
    pub user: String,
    /// What the user says the password is; not empty.
    pub password: Password,
    /// The name or address of the user's host; none for a Unix-domain socket.
    pub host: Option<String>,
}

/// What an LDAP server is asked about somebody.
#[derive(Clone, Copy)]
pub struct LdapQuestion<'a> {
    /// Where and how.
    pub ldap: &'a Ldap,
    /// Begins TLS with the server, where that is wanted.
    pub tls: Option<&'a Connector>,
    /// The user.
    pub user: &'a str,
    /// What the user says the password is; not empty.
    pub password: &'a Password,
}

impl Authorities {
    /// Authorities of whom nothing has been asked.
    pub fn new(resolver: Arc<Resolver>) -> Self {
        Self {
            lookups: Aside::new(LOOKUPS_MAX),
            names: Aside::new(NAMES_MAX),
            pam: Aside::new(PAM_MAX),
            ldap: Semaphore::new(LDAP_MAX),
            resolver,
        }
    }

    /// Why this method cannot be had in this build, if it cannot.
    pub fn lacks(method: &Method) -> Option<&'static str> {
        match method {
            Method::Pam(_) if cfg!(not(feature = "pam")) => Some("this howdah was built without pam"),
            Method::Ldap(_) if cfg!(not(feature = "ldap")) => Some("this howdah was built without ldap"),
            _ => None,
        }
    }

    /// The name of a user of this machine.
    pub async fn user_name(&self, uid: u32, limit: Duration) -> Result<String, Doubt> {
        match self.lookups.run(limit, move || system::user_name(uid)).await {
            Some(found) => {
                found.map_err(|why| Doubt::Refused(format!("could not look up local user ID {uid}: {why}")))
            }
            None => Err(Doubt::NoAnswer(format!(
                "the name of local user ID {uid} was not found in time"
            ))),
        }
    }

    /// This machine's addresses; none if they cannot be had.
    pub async fn interfaces(&self, limit: Duration) -> Vec<Interface> {
        self.lookups
            .run(limit, system::interfaces)
            .await
            .unwrap_or_default()
    }

    /// The name of the host with this address, if it has one that leads back to the address.
    pub async fn host_name(&self, address: IpAddr, limit: Duration) -> HostName {
        let found = self.names.run(limit, move || system::host_name(address)).await;
        found.flatten().map_or(HostName::Unknown, HostName::Is)
    }

    /// Whether PAM accepts a password.
    #[cfg(feature = "pam")]
    pub async fn ask_pam(&self, question: PamQuestion, limit: Duration) -> Result<(), Doubt> {
        let answer = self.pam.run(limit, move || pam::ask(&question)).await;
        let Some(pam::Answer { verdict, delay }) = answer else {
            return Err(Doubt::NoAnswer("PAM does not answer in time".to_owned()));
        };
        // A module that wants guessing to be slow shall have its way, but without a thread that sleeps.
        tokio::time::sleep(delay).await;
        verdict
    }

    /// Whether PAM accepts a password, which this build cannot say.
    #[cfg(not(feature = "pam"))]
    #[expect(clippy::unused_async, reason = "the other build's waits")]
    pub async fn ask_pam(&self, _question: PamQuestion, _limit: Duration) -> Result<(), Doubt> {
        Err(Doubt::NoAnswer("this howdah was built without pam".to_owned()))
    }

    /// Whether an LDAP server accepts a password.
    #[cfg(feature = "ldap")]
    pub async fn ask_ldap(&self, question: LdapQuestion<'_>, limit: Duration) -> Result<(), Doubt> {
        let asked = async {
            let _place = self.ldap.acquire().await;
            ldap::ask(&question, &self.resolver, limit).await
        };
        let answer = crate::net::within(limit, asked).await;
        let late = || Doubt::NoAnswer("the LDAP server does not answer in time".to_owned());
        answer.unwrap_or_else(|_| Err(late()))
    }

    /// Whether an LDAP server accepts a password, which this build cannot say.
    #[cfg(not(feature = "ldap"))]
    #[expect(clippy::unused_async, reason = "the other build's waits")]
    pub async fn ask_ldap(&self, _question: LdapQuestion<'_>, _limit: Duration) -> Result<(), Doubt> {
        Err(Doubt::NoAnswer("this howdah was built without ldap".to_owned()))
    }
}
