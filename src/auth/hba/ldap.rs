//! The options of `ldap`, and the names and filters that are made from a user's name.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::super::Password;
use super::super::ldap::encode_filter;
use super::super::tables::words;

/// Where and how an LDAP server is asked about a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ldap {
    /// Names or addresses of servers, each of which is tried until one can be reached; not empty.
    pub servers: Vec<String>,
    /// The TCP port; without it that of the scheme.
    pub port: Option<u16>,
    /// What runs over it.
    pub scheme: Scheme,
    /// How the user's name becomes one to bind with.
    pub bind: Bind,
}

/// How the connection to an LDAP server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Not at all.
    #[default]
    Plain,
    /// By TLS after a `StartTLS` request (`ldaptls=1`).
    StartTls,
    /// By TLS from the first byte (`ldaps`).
    Ldaps,
}

/// How a user's name becomes the name to bind with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// By what stands before and after it.
    Simple(Simple),
    /// By a search for it.
    Search(Search),
}

/// What stands around the user's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simple {
    prefix: String,
    suffix: String,
}

/// How the entry of a user is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The entry to begin at.
    pub base: String,
    /// Who searches, and their password. Anonymous without a name.
    pub reader: (String, Password),
    /// How far below `base`.
    pub scope: Scope,
    wanted: Wanted,
}

/// How deep a search goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The entry itself.
    Base,
    /// Those directly below it.
    One,
    /// It and all below.
    #[default]
    Subtree,
}

/// What an entry must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This attribute is the user's name.
    Attribute(String),
    /// It fits this filter, in which `$username` stands for the user's name.
    Filter(String),
}

impl Default for Bind {
    fn default() -> Self {
        Self::Simple(Simple::default())
    }
}

impl Ldap {
    /// Reads options as they stand in a rule, without one (`auth_ldap_options`).
    pub fn parse(options: &str) -> Result<Self, String> {
        let mut read = LdapOptions::default();
        for word in words(options) {
            let (name, value) = word
                .split_once('=')
                // Without the word, which may be part of a password with a blank in it.
                .ok_or("an option is not in name=value format")?;
            read.set(name, value)?;
        }
        read.finish()
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Ldaps => 636,
            Scheme::Plain | Scheme::StartTls => 389,
        })
    }
}

impl Simple {
    /// The name to bind with; `None` for a user whose name cannot stand in it.
    pub fn name_of(&self, user: &str) -> Option<String> {
        let Self { prefix, suffix } = self;
        // Where the name is an attribute of a distinguished name, there are rules for what cannot stand as it is.
        // Elsewhere (an address, DOMAIN\name) there are none, so that it must be harmless.
        let user: Cow<'_, str> = if prefix.contains('=') {
            dn_value(user).into()
        } else if user.contains(is_special_in_dn) || user.contains(char::is_control) {
            return None;
        } else {
            user.into()
        };
        Some(format!("{prefix}{user}{suffix}"))
    }
}

impl Wanted {
    fn new(attribute: Option<String>, filter: Option<String>) -> Result<Self, String> {
        let (wanted, written) = match (attribute, filter) {
            (Some(_), Some(_)) => {
                return Err("cannot use ldapsearchattribute together with ldapsearchfilter".to_owned());
            }
            (None, Some(filter)) => (Self::Filter(filter.clone()), filter),
            (attribute, None) => {
                let attribute = attribute.unwrap_or_else(|| "uid".to_owned());
                (Self::Attribute(attribute.clone()), attribute)
            }
        };
        // Any name will do: it is written so that it changes nothing else.
        match encode_filter(&wanted.for_user("name")) {
            Some(_) => Ok(wanted),
            None => Err(format!("invalid LDAP search filter or attribute: \"{written}\"")),
        }
    }

    fn for_user(&self, user: &str) -> String {
        let user = filter_value(user);
        match self {
            Self::Attribute(attribute) => format!("({attribute}={user})"),
            Self::Filter(filter) => filter.replace("$username", &user),
        }
    }
}

impl Search {
    /// The filter (RFC 4515) that finds a user.
    pub fn filter_for(&self, user: &str) -> String {
        self.wanted.for_user(user)
    }
}

fn is_special_in_dn(letter: char) -> bool {
    matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#' | '/')
}

/// A value as it stands in a distinguished name (RFC 4514).
fn dn_value(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut value = String::with_capacity(text.len());
    for (index, letter) in text.chars().enumerate() {
        match letter {
            letter if letter.is_ascii_control() => push_hex(&mut value, letter),
            ' ' if index == 0 || index == last => value += "\\ ",
            letter if is_special_in_dn(letter) && letter != '/' => {
                value.push('\\');
                value.push(letter);
            }
            letter => value.push(letter),
        }
    }
    value
}

/// A value as it stands in a filter (RFC 4515).
fn filter_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '*' | '(' | ')' | '\\' | '\0' => push_hex(&mut value, letter),
            letter => value.push(letter),
        }
    }
    value
}

/// An ASCII character by its number.
fn push_hex(value: &mut String, letter: char) {
    let number = u32::from(letter);
    value.push('\\');
    value.extend(
        [number >> 4, number & 15]
            .into_iter()
            .filter_map(|four| char::from_digit(four, 16)),
    );
}

/// Options as they are read.
#[derive(Default)]
pub(super) struct LdapOptions {
    servers: Vec<String>,
    port: Option<u16>,
    is_ldaps: bool,
    start_tls: bool,
    prefix: Option<String>,
    suffix: Option<String>,
    base: Option<String>,
    bind_name: Option<String>,
    bind_password: Option<Password>,
    attribute: Option<String>,
    filter: Option<String>,
    scope: Scope,
}

impl LdapOptions {
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || Some(value.to_owned());
        match name {
            "ldapurl" => return self.url(value),
            "ldapserver" => self.servers = value.split_whitespace().map(str::to_owned).collect(),
            "ldapport" => self.port = Some(port(value)?),
            "ldapscheme" => {
                let known = is_ldaps(value);
                self.is_ldaps = known.ok_or_else(|| format!("invalid ldapscheme value: \"{value}\""))?;
            }
            "ldaptls" => self.start_tls = value == "1",
            "ldapprefix" => self.prefix = text(),
            "ldapsuffix" => self.suffix = text(),
            "ldapbasedn" => self.base = text(),
            "ldapbinddn" => self.bind_name = text(),
            "ldapbindpasswd" => self.bind_password = Some(Password::new(value.as_bytes())),
            "ldapsearchattribute" => self.attribute = text(),
            "ldapsearchfilter" => self.filter = text(),
            _ => return Err(format!("unrecognized authentication option name: \"{name}\"")),
        }
        Ok(())
    }

    /// `ldap[s]://host[:port]/basedn[?[attribute][?[scope][?[filter]]]]` (RFC 4516).
    fn url(&mut self, url: &str) -> Result<(), String> {
        let invalid = || format!("could not parse LDAP URL \"{url}\"");
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        self.is_ldaps = is_ldaps(scheme).ok_or_else(|| format!("unsupported LDAP URL scheme: {scheme}"))?;
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, written_port) = host_and_port(place).ok_or_else(invalid)?;
        self.servers = (!host.is_empty()).then(|| host.to_owned()).into_iter().collect();
        self.port = written_port.map(port).transpose()?;
        let mut parts = path.split('?');
        let mut part = || match parts.next() {
            Some(part) => percent_decoded(part).ok_or_else(invalid),
            None => Ok(String::new()),
        };
        let some = |text: String| (!text.is_empty()).then_some(text);
        self.base = some(part()?).or(self.base.take());
        // Of several attributes the first counts.
        let attributes = part()?;
        let first = attributes.split(',').next().unwrap_or_default().to_owned();
        self.attribute = some(first).or(self.attribute.take());
        self.scope = match part()?.as_str() {
            "" | "base" => Scope::Base,
            "one" => Scope::One,
            "sub" => Scope::Subtree,
            _ => return Err(invalid()),
        };
        self.filter = some(part()?).or(self.filter.take());
        Ok(())
    }

    /// The options together, if they make sense together.
    pub(super) fn finish(self) -> Result<Ldap, String> {
        if self.servers.is_empty() {
            return Err(
                "authentication method \"ldap\" requires argument \"ldapserver\" to be set".to_owned(),
            );
        }
        let scheme = match (self.is_ldaps, self.start_tls) {
            (true, true) => return Err("ldaptls cannot be used together with ldaps".to_owned()),
            (true, false) => Scheme::Ldaps,
            (false, true) => Scheme::StartTls,
            (false, false) => Scheme::Plain,
        };
        let searches = self.base.is_some()
            || self.bind_name.is_some()
            || self.bind_password.is_some()
            || self.attribute.is_some()
            || self.filter.is_some();
        let is_simple = self.prefix.is_some() || self.suffix.is_some();
        let bind = match (self.base, is_simple) {
            (_, true) if searches => {
                return Err("cannot mix options for simple bind and search+bind modes".to_owned());
            }
            (_, true) => Bind::Simple(Simple {
                prefix: self.prefix.unwrap_or_default(),
                suffix: self.suffix.unwrap_or_default(),
            }),
            (None, false) => {
                return Err(
                    "authentication method \"ldap\" requires argument \"ldapbasedn\", \"ldapprefix\", or \"ldapsuffix\" \
                     to be set"
                        .to_owned(),
                );
            }
            (Some(base), false) => Bind::Search(Search {
                base,
                reader: (
                    self.bind_name.unwrap_or_default(),
                    self.bind_password.unwrap_or_else(|| Password::new([])),
                ),
                scope: self.scope,
                wanted: Wanted::new(self.attribute, self.filter)?,
            }),
        };
        Ok(Ldap {
            servers: self.servers,
            port: self.port,
            scheme,
            bind,
        })
    }
}

fn is_ldaps(scheme: &str) -> Option<bool> {
    match scheme {
        "ldap" => Some(false),
        "ldaps" => Some(true),
        _ => None,
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("invalid LDAP port number: \"{text}\""))
}

/// `host`, `host:port`, `[::1]:port`; the host may be missing.
fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((address, Some(port))),
            None => after.is_empty().then_some((address, None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}
