//! Asking an LDAP server about a password, as an exchange without IO: bytes in, bytes out.
//!
//! Either the name to bind with is made from the user's, or it is searched for first, by a reader that binds before.
//! The password is right if a bind with it succeeds. It is never sent empty: servers say yes to a bind with a name and no
//! password, and mean that nobody has been authenticated (RFC 4513, section 5.1.2).

mod ber;
mod filter;
#[cfg(test)]
mod tests;

use std::fmt;

use super::Password;
use super::hba::{Bind, Ldap, Scheme, Scope, Search};
use ber::{BOOLEAN, ENUMERATED, Elements, INTEGER, SEQUENCE, STRING, element, together};

pub(super) use filter::encode as encode_filter;

/// The longest message that a server may send, in bytes: it has only names and texts for us.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;
/// Asks for TLS (RFC 4511, section 4.14).
const START_TLS_OID: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// Answers to a search that say nothing, such as referrals to other servers.
const REFERENCES_MAX: u32 = 100;

const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_REQUEST: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;

const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_CREDENTIALS: u32 = 49;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this, and give what comes back to [`Exchange::answer`].
    Send(Vec<u8>),
    /// Read on: the answer is not complete.
    Read,
    /// Begin TLS on the connection, then go on with [`Exchange::secured`]. Nothing may have been read beyond the
    /// answer: it would be taken for something that was said under TLS.
    StartTls,
    /// The password is right.
    Right,
    /// The user does not get in.
    Wrong(LdapError),
}

/// Why an LDAP server did not vouch for somebody; for the log, not for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LdapError {
    /// The server refuses the password.
    #[error("the LDAP server refuses the password")]
    WrongPassword,
    /// There is no password to ask about.
    #[error("the password is empty")]
    EmptyPassword,
    /// The search has found nothing.
    #[error("the user was not found in the directory")]
    NoSuchUser,
    /// The search has found more than one entry.
    #[error("several entries of the directory fit the user")]
    Ambiguous,
    /// The user's name has characters that cannot stand in the name to bind with.
    #[error("the user's name cannot stand in the name to bind with")]
    UnsoundName,
    /// The server reports something else.
    #[error("the LDAP server answers {what} with result code {code}: {text}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// As the server numbers it (RFC 4511, appendix A).
        code: u32,
        /// What the server says to it, made printable and short.
        text: String,
    },
    /// The server sent something that the protocol does not allow at this point.
    #[error("the LDAP server breaks the protocol: {0}")]
    Malformed(&'static str),
}

/// The exchange about one user's password.
pub struct Exchange<'a> {
    ldap: &'a Ldap,
    user: &'a str,
    password: &'a Password,
    state: State,
    /// The number of the last request.
    id: u8,
}

/// ```text
/// StartTls ─→ Securing ─→ Reader ─→ Search ─→ User ─→ Ended
/// ```
///
/// Each but the last may be left out.
#[derive(Debug)]
enum State {
    /// → `Securing`
    StartTls,
    /// TLS is being negotiated. → `Reader`, `User`
    Securing,
    /// The reader binds. → `Search`
    Reader,
    /// → `User` once exactly one entry has been found.
    Search { found: Option<String>, references: u32 },
    /// The user binds. → `Ended`
    User,
    /// Nothing follows.
    Ended,
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("user", &self.user)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<'a> Exchange<'a> {
    /// Begins an exchange and says what to do first.
    pub fn begin(ldap: &'a Ldap, user: &'a str, password: &'a Password) -> (Self, Step) {
        let mut exchange = Self {
            ldap,
            user,
            password,
            state: State::Ended,
            id: 0,
        };
        let step = if password.reveal().is_empty() || user.is_empty() {
            Step::Wrong(LdapError::EmptyPassword)
        } else if ldap.scheme == Scheme::StartTls {
            exchange.state = State::StartTls;
            let name = element(0x80, START_TLS_OID);
            exchange.request(element(EXTENDED_REQUEST, &name))
        } else {
            exchange.first_bind()
        };
        (exchange, step)
    }

    /// TLS has been negotiated after [`Step::StartTls`].
    pub fn secured(&mut self) -> Step {
        match self.state {
            State::Securing => self.first_bind(),
            _ => self.wrong(LdapError::Malformed("TLS came at the wrong moment")),
        }
    }

    /// How long the message is that the bytes begin with, once that is known.
    pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, LdapError> {
        const BAD: LdapError = LdapError::Malformed("a message that is none or too long");
        ber::whole_len(bytes, MESSAGE_LEN_MAX).map_err(|()| BAD)
    }

    /// Reads one message of the server.
    pub fn answer(&mut self, message: &[u8]) -> Step {
        let step = self.understand(message);
        step.unwrap_or_else(|error| self.wrong(error))
    }

    /// What to send before the connection is closed.
    pub fn goodbye(&mut self) -> Vec<u8> {
        self.message(element(UNBIND_REQUEST, &[]))
    }

    fn understand(&mut self, message: &[u8]) -> Result<Step, LdapError> {
        let (id, tag, content) =
            envelope(message).ok_or(LdapError::Malformed("a message in the wrong form"))?;
        if id == 0 && tag == EXTENDED_RESPONSE {
            // Notice of Disconnection.
            return Err(Outcome::of(content)?.error("the connection"));
        }
        if id != u32::from(self.id) {
            return Err(LdapError::Malformed("an answer to something that was not asked"));
        }
        match (&mut self.state, tag) {
            (State::StartTls, EXTENDED_RESPONSE) => {
                Outcome::of(content)?.expect_success("StartTLS")?;
                self.state = State::Securing;
                Ok(Step::StartTls)
            }
            (State::Reader, BIND_RESPONSE) => {
                let outcome = Outcome::of(content)?;
                outcome.expect_success("the bind of the reader (ldapbinddn)")?;
                Ok(self.search())
            }
            (State::Search { found, .. }, SEARCH_ENTRY) => {
                let name = Elements::of(content).expect(STRING);
                let name = name.and_then(|name| String::from_utf8(name.to_vec()).ok());
                let name = name.ok_or(LdapError::Malformed("an entry without a name"))?;
                if found.replace(name).is_some() {
                    return Err(LdapError::Ambiguous);
                }
                Ok(Step::Read)
            }
            (State::Search { references, .. }, SEARCH_REFERENCE) if *references < REFERENCES_MAX => {
                *references += 1;
                Ok(Step::Read)
            }
            (State::Search { found, .. }, SEARCH_DONE) => {
                let found = found.take();
                match Outcome::of(content)? {
                    Outcome { code: SUCCESS, .. } => {}
                    Outcome {
                        code: NO_SUCH_OBJECT, ..
                    } => return Err(LdapError::NoSuchUser),
                    Outcome {
                        code: SIZE_LIMIT_EXCEEDED,
                        ..
                    } => return Err(LdapError::Ambiguous),
                    other => return Err(other.error("the search")),
                }
                let name = found.ok_or(LdapError::NoSuchUser)?;
                Ok(self.bind_user(&name))
            }
            (State::User, BIND_RESPONSE) => {
                self.state = State::Ended;
                match Outcome::of(content)? {
                    Outcome { code: SUCCESS, .. } => Ok(Step::Right),
                    Outcome {
                        code: INVALID_CREDENTIALS,
                        ..
                    } => Err(LdapError::WrongPassword),
                    other => Err(other.error("the bind of the user")),
                }
            }
            _ => Err(LdapError::Malformed("an answer of the wrong kind")),
        }
    }

    fn first_bind(&mut self) -> Step {
        match &self.ldap.bind {
            Bind::Simple(simple) => match simple.name_of(self.user) {
                Some(name) => self.bind_user(&name),
                None => self.wrong(LdapError::UnsoundName),
            },
            Bind::Search(search) => {
                let (name, password) = &search.reader;
                self.state = State::Reader;
                // A password without a name, or the reverse, is no bind that means anything: anonymous, then.
                if name.is_empty() || password.reveal().is_empty() {
                    self.bind("", &[])
                } else {
                    self.bind(name, password.reveal())
                }
            }
        }
    }

    fn bind_user(&mut self, name: &str) -> Step {
        if name.is_empty() {
            // Without a name nobody is authenticated either.
            return self.wrong(LdapError::NoSuchUser);
        }
        self.state = State::User;
        self.bind(name, self.password.reveal())
    }

    fn bind(&mut self, name: &str, password: &[u8]) -> Step {
        let version = element(INTEGER, &[3]);
        let name = element(STRING, name.as_bytes());
        self.request(together(BIND_REQUEST, &[version, name, element(0x80, password)]))
    }

    fn search(&mut self) -> Step {
        let Bind::Search(search) = &self.ldap.bind else {
            return self.wrong(LdapError::Malformed("an answer of the wrong kind"));
        };
        let Some(request) = search_request(search, self.user) else {
            return self.wrong(LdapError::UnsoundName);
        };
        self.state = State::Search {
            found: None,
            references: 0,
        };
        self.request(request)
    }

    fn wrong(&mut self, error: LdapError) -> Step {
        self.state = State::Ended;
        Step::Wrong(error)
    }

    fn request(&mut self, operation: Vec<u8>) -> Step {
        Step::Send(self.message(operation))
    }

    fn message(&mut self, operation: Vec<u8>) -> Vec<u8> {
        self.id = self.id.saturating_add(1);
        together(SEQUENCE, &[element(INTEGER, &[self.id]), operation])
    }
}

fn search_request(search: &Search, user: &str) -> Option<Vec<u8>> {
    let scope = match search.scope {
        Scope::Base => 0,
        Scope::One => 1,
        Scope::Subtree => 2,
    };
    let parts = [
        element(STRING, search.base.as_bytes()),
        element(ENUMERATED, &[scope]),
        // Aliases are not followed.
        element(ENUMERATED, &[0]),
        // Two entries are enough to know that there is not one.
        element(INTEGER, &[2]),
        element(INTEGER, &[0]),
        // Names of attributes without their values, and of no attribute.
        element(BOOLEAN, &[0xff]),
        filter::encode(&search.filter_for(user))?,
        together(SEQUENCE, &[element(STRING, b"1.1")]),
    ];
    Some(together(SEARCH_REQUEST, &parts))
}

/// The number of a message, and the tag and content of the operation in it.
fn envelope(message: &[u8]) -> Option<(u32, u8, &[u8])> {
    let mut parts = Elements::of(Elements::of(message).expect(SEQUENCE)?);
    let id = parts.number(INTEGER)?;
    let (tag, content) = parts.next()?;
    Some((id, tag, content))
}

/// An `LDAPResult`.
struct Outcome {
    code: u32,
    text: String,
}

impl Outcome {
    fn of(content: &[u8]) -> Result<Self, LdapError> {
        let mut parts = Elements::of(content);
        let code = parts.number(ENUMERATED);
        let _matched_name = parts.expect(STRING);
        match (code, parts.expect(STRING)) {
            (Some(code), Some(text)) => Ok(Self {
                code,
                text: printable(text),
            }),
            _ => Err(LdapError::Malformed("a result in the wrong form")),
        }
    }

    fn expect_success(self, what: &'static str) -> Result<(), LdapError> {
        match self.code {
            SUCCESS => Ok(()),
            _ => Err(self.error(what)),
        }
    }

    fn error(self, what: &'static str) -> LdapError {
        let Self { code, text } = self;
        LdapError::Refused { what, code, text }
    }
}

/// What a server says, for a line of the log.
fn printable(text: &[u8]) -> String {
    const LEN_MAX: usize = 200;
    let text = String::from_utf8_lossy(text);
    let clean = text
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter });
    clean.take(LEN_MAX).collect()
}
