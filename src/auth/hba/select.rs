//! Which rule a visitor falls under, and what one without a rule is told.

use std::net::IpAddr;

use crate::error::{Refusal, SqlState};

use super::address::{Addresses, Interface, is_named, is_within};
use super::{Rule, Rules, Transport};

/// Who wants to log in, and how they came.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The database of the startup message.
    pub database: &'a str,
    /// The user of the startup message.
    pub user: &'a str,
    /// Where they come from.
    pub origin: Origin,
    /// Whether a connection for physical replication is wanted, which has no database.
    pub is_physical_replication: bool,
}

/// Where a visitor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this machine, by a Unix-domain socket.
    Local,
    /// From this address, by TCP.
    Tcp(IpAddr),
    /// From this address, by TCP with TLS.
    Tls(IpAddr),
}

/// What has been looked up so far for one visitor.
#[derive(Debug, Default)]
pub struct Known {
    /// This machine's addresses.
    pub interfaces: Option<Vec<Interface>>,
    /// The name of the visitor's host.
    pub host: HostName,
}

/// What is known of the name of a visitor's host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostName {
    /// Nobody has asked.
    #[default]
    Unasked,
    /// It has none, or one that does not lead back to its address.
    Unknown,
    /// This one, which leads back to its address.
    Is(String),
}

/// Something that has to be looked up before a rule can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// [`Known::interfaces`]
    Interfaces,
    /// [`Known::host`]
    Host,
}

/// What the rules say about a visitor.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// This is the first rule that fits.
    Rule(&'a Rule),
    /// None fits: nobody gets in without a rule.
    None,
    /// Look this up and ask again.
    Unknown(Question),
}

impl Origin {
    /// The visitor's address, if it has one. IPv4 within IPv6 is IPv4.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Tcp(address) | Self::Tls(address) => Some(address.to_canonical()),
        }
    }
}

impl Rules {
    /// The first rule that fits a visitor.
    pub fn find(&self, visitor: &Visitor<'_>, known: &Known) -> Verdict<'_> {
        for rule in self {
            if !rule.is_about(visitor) {
                continue;
            }
            match rule.addresses.have(visitor.origin, known) {
                Ok(true) => return Verdict::Rule(rule),
                Ok(false) => {}
                Err(question) => return Verdict::Unknown(question),
            }
        }
        Verdict::None
    }
}

impl Rule {
    /// Whether all fits but perhaps the address, which may have to be looked up and so comes last.
    fn is_about(&self, visitor: &Visitor<'_>) -> bool {
        let Visitor { database, user, .. } = *visitor;
        let physical = visitor.is_physical_replication;
        self.transport.is(visitor.origin)
            && self
                .databases
                .iter()
                .any(|name| name.is(database, user, physical))
            && self.users.iter().any(|name| name.is(user))
    }
}

impl Transport {
    fn is(self, origin: Origin) -> bool {
        match self {
            Self::Any => true,
            Self::Local => origin == Origin::Local,
            Self::Host | Self::HostNoGss => origin != Origin::Local,
            Self::HostSsl => matches!(origin, Origin::Tls(_)),
            Self::HostNoSsl => matches!(origin, Origin::Tcp(_)),
            Self::HostGss => false,
        }
    }
}

impl Addresses {
    fn have(&self, origin: Origin, known: &Known) -> Result<bool, Question> {
        let Some(address) = origin.address() else {
            // Rules for sockets have no addresses, and others do not come here.
            return Ok(true);
        };
        let interfaces = || known.interfaces.as_deref().ok_or(Question::Interfaces);
        Ok(match self {
            Self::Everywhere => true,
            Self::SameHost => interfaces()?.iter().any(|have| have.is(address)),
            Self::SameNet => interfaces()?.iter().any(|have| have.has(address)),
            Self::Net {
                address: network,
                mask,
            } => is_within(address, *network, *mask),
            Self::Name(wanted) => match &known.host {
                HostName::Unasked => return Err(Question::Host),
                HostName::Unknown => false,
                HostName::Is(name) => is_named(wanted, name),
            },
        })
    }
}

impl Visitor<'_> {
    /// What a visitor is told for whom there is no rule.
    pub fn no_entry(&self) -> Refusal {
        let who = self.described("no pg_hba.conf entry for");
        Refusal::new(SqlState::INVALID_AUTHORIZATION, who)
    }

    /// What a visitor is told whose rule is to reject them.
    pub fn rejected(&self) -> Refusal {
        let who = self.described("pg_hba.conf rejects");
        Refusal::new(SqlState::INVALID_AUTHORIZATION, who)
    }

    /// PostgreSQL's words, so that whoever looks them up finds what they mean.
    fn described(&self, what: &str) -> String {
        let host = match self.origin.address() {
            Some(address) => address.to_string(),
            None => "[local]".to_owned(),
        };
        let encryption = match self.origin {
            Origin::Tls(_) => "SSL encryption",
            Origin::Tcp(_) | Origin::Local => "no encryption",
        };
        let (user, database) = (self.user, self.database);
        let rejects = what.ends_with("rejects");
        let kind = match (self.is_physical_replication, rejects) {
            (true, true) => "replication connection for ",
            (true, false) => "replication connection from ",
            (false, true) => "connection for ",
            (false, false) => "",
        };
        if self.is_physical_replication {
            format!("{what} {kind}host \"{host}\", user \"{user}\", {encryption}")
        } else {
            format!("{what} {kind}host \"{host}\", user \"{user}\", database \"{database}\", {encryption}")
        }
    }
}
