//! From a line of words to a rule.

use super::super::pattern::Pattern;
use super::super::tables::{Line, Word};
use super::address::{Addresses, addresses};
use super::options::{Options, method};
use super::{DatabaseName, Place, RoleName, Rule, Transport};

/// The fields of a line, which are taken one after the other.
struct Fields<'a>(std::slice::Iter<'a, Vec<Word>>);

impl<'a> Fields<'a> {
    /// The next field; `what` says what it should be.
    fn next(&mut self, what: &str) -> Result<&'a [Word], String> {
        match self.0.next() {
            Some(words) => Ok(words),
            None => Err(format!("end-of-line before {what}")),
        }
    }

    /// The next field, which must be a single word.
    fn single(&mut self, what: &str) -> Result<&'a Word, String> {
        match self.next(what)? {
            [word] => Ok(word),
            _ => Err(format!("multiple values specified for {what}")),
        }
    }
}

/// Reads a line; the error says what is wrong with it.
pub(super) fn rule(line: &Line) -> Result<Rule, String> {
    let mut fields = Fields(line.fields.iter());
    let transport = transport(fields.single("connection type")?)?;
    let databases = fields.next("database specification")?;
    let databases = databases.iter().map(database).collect::<Result<_, _>>()?;
    let users = fields.next("role specification")?;
    let users = users.iter().map(RoleName::new).collect::<Result<_, _>>()?;
    let addresses = if transport == Transport::Local {
        Addresses::Everywhere
    } else {
        let word = fields.single("IP address specification")?;
        addresses(word, || fields.single("netmask specification"))?
    };
    let name = &fields.single("authentication method")?.text;
    let kind = method(name, transport)?;
    let mut options = Options::new(&kind, transport);
    for word in fields.0.flatten() {
        options.set(&word.text)?;
    }
    let (method, certificate, name_of, map) = options.finish(kind)?;
    Ok(Rule {
        place: Place {
            file: line.file.clone(),
            line: line.number,
        },
        transport,
        databases,
        users,
        addresses,
        method,
        certificate,
        name_of,
        map,
    })
}

fn transport(word: &Word) -> Result<Transport, String> {
    Ok(match word.text.as_str() {
        "local" => Transport::Local,
        "host" => Transport::Host,
        "hostssl" => Transport::HostSsl,
        "hostnossl" => Transport::HostNoSsl,
        "hostgssenc" => Transport::HostGss,
        "hostnogssenc" => Transport::HostNoGss,
        other => return Err(format!("invalid connection type \"{other}\"")),
    })
}

fn database(word: &Word) -> Result<DatabaseName, String> {
    for (keyword, name) in [
        ("all", DatabaseName::All),
        ("sameuser", DatabaseName::SameUser),
        ("replication", DatabaseName::Replication),
    ] {
        if word.is(keyword) {
            return Ok(name);
        }
    }
    if let Some(keyword) = ["samerole", "samegroup"].iter().find(|keyword| word.is(keyword)) {
        return Err(format!(
            "\"{keyword}\" is not supported: howdah does not know the members of roles"
        ));
    }
    match word.expression() {
        Some(expression) => Pattern::new(expression).map(DatabaseName::Matches),
        None => Ok(DatabaseName::Is(word.text.clone())),
    }
}

impl RoleName {
    /// Reads a word of a user field.
    pub(in crate::auth) fn new(word: &Word) -> Result<Self, String> {
        if word.is("all") {
            return Ok(Self::All);
        }
        if let Some(role) = word.group() {
            return Err(format!(
                "\"+{role}\" is not supported: howdah does not know the members of roles"
            ));
        }
        match word.expression() {
            Some(expression) => Pattern::new(expression).map(Self::Matches),
            None => Ok(Self::Is(word.text.clone())),
        }
    }

    /// Whether the user is meant.
    pub(in crate::auth) fn is(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Is(name) => name == user,
            Self::Matches(pattern) => pattern.is_match(user),
        }
    }
}

impl DatabaseName {
    /// Whether the database is meant, for this user. A connection for physical replication has no database: only its
    /// own keyword means it.
    pub(super) fn is(&self, database: &str, user: &str, is_physical_replication: bool) -> bool {
        match self {
            Self::Replication => is_physical_replication,
            _ if is_physical_replication => false,
            Self::All => true,
            Self::SameUser => database == user,
            Self::Is(name) => name == database,
            Self::Matches(pattern) => pattern.is_match(database),
        }
    }
}
