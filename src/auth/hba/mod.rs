//! Who may log in, from where, and by which method: rules in the syntax of `pg_hba.conf`.
//!
//! The format is that of the manual's chapter on `pg_hba.conf`. [`Rules::parse`] reads it and reports everything
//! that is wrong; [`Rules::find`] picks the first rule that fits a visitor. Neither does IO: files come through
//! [`Files`], and what has to be looked up while rules are compared (the peer's host name, this machine's addresses) is
//! asked for by [`Verdict::Unknown`].

mod address;
mod ldap;
mod line;
mod options;
mod select;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::pattern::Pattern;
use super::tables::{Fault, Faults, Files, tables};
use address::Addresses;

pub use address::Interface;
pub use ldap::{Bind, Ldap, Scheme, Scope, Search, Simple, Wanted};
pub use select::{HostName, Known, Origin, Question, Verdict, Visitor};

/// The rules, in the order in which they are tried.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

/// One line of the file.
#[derive(Debug)]
pub struct Rule {
    place: Place,
    transport: Transport,
    databases: Vec<DatabaseName>,
    users: Vec<RoleName>,
    addresses: Addresses,
    /// How the visitor proves who they are.
    pub method: Method,
    /// What is asked of the client's certificate beside that.
    pub certificate: Certificate,
    /// Which name of the certificate counts.
    pub name_of: CertificateName,
    /// The map by which the name of a certificate or of a local user becomes the user's.
    pub map: Option<String>,
}

/// Where a rule was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

/// What connections a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// Any, where there is no file.
    Any,
    /// Unix-domain sockets.
    Local,
    /// TCP.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
    /// TCP encrypted by GSSAPI, which howdah never is.
    HostGss,
    /// TCP not encrypted by GSSAPI, which howdah's always is.
    HostNoGss,
}

/// A word of the database field.
#[derive(Debug)]
enum DatabaseName {
    All,
    SameUser,
    Replication,
    Is(String),
    Matches(Pattern),
}

/// A word of the user field, here and in an ident map.
#[derive(Debug)]
pub(super) enum RoleName {
    All,
    Is(String),
    Matches(Pattern),
}

/// How a visitor proves who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// They need not.
    Trust,
    /// They cannot.
    Reject,
    /// By the password in clear.
    Password,
    /// By an md5 challenge, or SCRAM where the secret is a verifier.
    Md5,
    /// By SCRAM-SHA-256.
    Scram,
    /// By the name in their certificate.
    Cert,
    /// By the operating system's word for who is at the other end of a Unix socket.
    Peer,
    /// By what PAM says to the password.
    Pam(Pam),
    /// By what an LDAP server says to the password.
    Ldap(Arc<Ldap>),
}

/// The options of `pam`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pam {
    /// The service; without it the one that is configured for all.
    pub service: Option<String>,
    /// Whether modules are told the client's host name rather than its address.
    pub use_hostname: bool,
}

/// What a rule asks of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing.
    #[default]
    Any,
    /// There must be one, of a trusted authority.
    Valid,
    /// Its name must be the user's as well.
    Named,
}

/// Which name of a certificate is the user's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name.
    #[default]
    CommonName,
    /// The whole distinguished name as RFC 2253 writes it.
    DistinguishedName,
}

impl Rules {
    /// Reads a file and those that it includes. The error is everything that is wrong, each with its line.
    pub fn parse(path: &Path, files: &dyn Files) -> Result<Self, Faults> {
        let (lines, mut faults) = tables(path, files);
        let mut rules = Vec::new();
        for written in &lines {
            match line::rule(written) {
                Ok(rule) => rules.push(rule),
                Err(message) => faults.push(written.fault(message)),
            }
        }
        if rules.is_empty() && faults.is_empty() {
            // Nobody could log in, which is hardly what was meant.
            faults.push(Fault::of_file(path, "there is no rule in it"));
        }
        Faults::of(faults).map_or(Ok(Self(rules)), Err)
    }

    /// The one rule of a configuration without a file: everybody, from anywhere, by this method.
    pub fn everybody(method: Method) -> Self {
        let named = method == Method::Cert;
        Self(vec![Rule {
            place: Place {
                file: "auth_type".into(),
                line: 0,
            },
            transport: Transport::Any,
            // `all` does not mean physical replication, which is for everybody too.
            databases: vec![DatabaseName::All, DatabaseName::Replication],
            users: vec![RoleName::All],
            addresses: Addresses::Everywhere,
            method,
            certificate: if named {
                Certificate::Named
            } else {
                Certificate::Any
            },
            name_of: CertificateName::CommonName,
            map: None,
        }])
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none; then nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Rule;
    type IntoIter = std::slice::Iter<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Rule {
    /// Where it was written, for the log.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl Method {
    /// The exchange with the visitor that it is, if it is one that needs nobody else.
    pub fn exchange(&self) -> Option<super::Method> {
        match self {
            Self::Trust => Some(super::Method::Trust),
            Self::Password => Some(super::Method::Password),
            Self::Md5 => Some(super::Method::Md5),
            Self::Scram => Some(super::Method::Scram),
            _ => None,
        }
    }

    /// The word for it in a file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
            Self::Cert => "cert",
            Self::Peer => "peer",
            Self::Pam(_) => "pam",
            Self::Ldap(_) => "ldap",
        }
    }
}
