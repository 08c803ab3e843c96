//! The exchange towards a server: the server asks, howdah answers and checks that the server is no impostor.

use std::{fmt, mem};

use super::md5::Md5Hash;
use super::scram::{self, ClientBinding, ClientExchange, ClientFinal, MECHANISM, MECHANISM_PLUS};
use super::{AuthError, ChannelBinding, Password, Proof, Random, SaltedKeys, StoredSecret};

/// Codes of the message of type Authentication ("Message Formats" in PostgreSQL's manual).
pub(super) const OK: i32 = 0;
pub(super) const CLEARTEXT: i32 = 3;
pub(super) const MD5: i32 = 5;
pub(super) const SASL: i32 = 10;
pub(super) const SASL_CONTINUE: i32 = 11;
pub(super) const SASL_FINAL: i32 = 12;

/// Who logs into a server, and by what. Whatever is there is used; what is missing is missed only if it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password: answers everything.
    pub password: Option<Password>,
    /// PostgreSQL's old hash: answers the md5 challenge.
    pub md5: Option<Md5Hash>,
    /// Keys from a client's proof or from an earlier login: answer SCRAM if the server's verifier is the same, and
    /// spare the work of deriving them from the password.
    pub keys: Option<SaltedKeys>,
}

impl Credentials {
    /// What a user's stored secret is good for towards a server. A SCRAM verifier is good for nothing.
    pub fn from_secret(user: impl Into<String>, secret: &StoredSecret) -> Self {
        let (password, md5) = match secret {
            StoredSecret::Plain(plain) => (Some(plain.password().clone()), None),
            StoredSecret::Md5(hash) => (None, Some(*hash)),
            StoredSecret::Scram(_) => (None, None),
        };
        Self {
            user: user.into(),
            password,
            md5,
            keys: None,
        }
    }

    /// Whether there is a password, or what does as well.
    pub fn is_empty(&self) -> bool {
        self.password.is_none() && self.md5.is_none() && self.keys.is_none()
    }

    /// These, and where they have nothing, what has been learned.
    #[must_use]
    pub fn or(&self, learned: &Learned) -> Self {
        Self {
            user: self.user.clone(),
            password: self.password.clone().or_else(|| learned.password.clone()),
            md5: self.md5.or(learned.md5),
            keys: self.keys.clone().or_else(|| learned.keys.clone()),
        }
    }
}

/// What the logins of clients have taught about a user's secret, where the configuration does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    password: Option<Password>,
    md5: Option<Md5Hash>,
    keys: Option<SaltedKeys>,
}

impl Learned {
    /// What there is to learn from a client's proof of knowing `secret`, beyond the secret itself.
    ///
    /// Keys are good for a server that has the same verifier: so not if the verifier was made here, from a password.
    pub fn from_proof(proof: Proof, secret: Option<&StoredSecret>) -> Self {
        let mut learned = Self::default();
        match (proof, secret) {
            (_, Some(StoredSecret::Plain(_))) | (Proof::Nothing, _) => {}
            (Proof::Password(password), _) => learned.password = Some(password),
            (Proof::Scram(keys), _) => learned.keys = Some(keys),
        }
        learned
    }

    /// The same and a secret that the configuration does not hold.
    #[must_use]
    pub fn and(mut self, secret: &StoredSecret) -> Self {
        match secret {
            StoredSecret::Plain(plain) => self.password = Some(plain.password().clone()),
            StoredSecret::Md5(hash) => self.md5 = Some(*hash),
            StoredSecret::Scram(_) => {}
        }
        self
    }

    /// Whether there is nothing to log in with.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What to do after a message of type Authentication.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// Send a message of type `p` with this body and wait for the next one.
    Send(Vec<u8>),
    /// Send nothing and wait for the next one.
    Continue,
    /// The server lets us in.
    Ok,
}

impl fmt::Debug for Reply {
    /// Without the body, which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send(***)",
            Self::Continue => "Continue",
            Self::Ok => "Ok",
        })
    }
}

/// The exchange with one server, from the first request to `AuthenticationOk`.
#[derive(Debug)]
pub struct ServerAuth {
    credentials: Credentials,
    binding: Option<ChannelBinding>,
    /// Nothing but an exchange that is bound will do.
    must_bind: bool,
    state: State,
}

/// ```text
/// Start ─→ Answered ─→ Ended
///   ├────────────────→ Ended
///   └─→ SaslFirst ─→ SaslFinal ─→ Proved ─→ Ended
/// ```
#[derive(Debug)]
enum State {
    /// → `Answered`, `SaslFirst`, `Ended`
    Start,
    /// A password or an md5 response is sent. → `Ended`
    Answered,
    /// → `SaslFinal`
    SaslFirst(ClientExchange),
    /// → `Proved`
    SaslFinal(ClientFinal),
    /// Both sides have proved that they know the secret. → `Ended`
    Proved(SaltedKeys),
    /// Whatever comes now is an error. Holds the keys of a SCRAM exchange that succeeded.
    Ended(Option<SaltedKeys>),
}

impl ServerAuth {
    /// Begins an exchange; `binding` is that of the TLS connection, if there is one.
    pub fn new(credentials: Credentials, binding: Option<ChannelBinding>) -> Self {
        Self {
            credentials,
            binding,
            must_bind: false,
            state: State::Start,
        }
    }

    /// Refuses every login that is not bound to the TLS connection; no password is sent then.
    #[must_use]
    pub fn bound(self) -> Self {
        Self {
            must_bind: true,
            ..self
        }
    }

    /// Whether the next [`answer`](Self::answer) may have to derive keys, for which it takes as long as the server asks
    /// for.
    pub fn may_be_slow(&self) -> bool {
        matches!(self.state, State::SaslFirst(_)) && self.credentials.password.is_some()
    }

    /// Reads the body of a message of type Authentication (`R`) and says what to do. After an error, close.
    ///
    /// The step after `AuthenticationSASLContinue` may derive keys: up to half a second of work, if the server asks
    /// for that and no keys at hand fit.
    pub fn answer(&mut self, body: &[u8], random: Random<'_>) -> Result<Reply, AuthError> {
        let (code, data) = body
            .split_first_chunk()
            .ok_or(AuthError::Malformed("the message has no code"))?;
        let code = i32::from_be_bytes(*code);
        let is_bound = matches!(self.state, State::Proved(_)) || !matches!(code, OK | CLEARTEXT | MD5);
        if self.must_bind && !is_bound {
            return Err(AuthError::Unbound);
        }
        let (state, reply) = match (mem::replace(&mut self.state, State::Ended(None)), code) {
            (State::Start | State::Answered, OK) => (State::Ended(None), Reply::Ok),
            (State::Proved(keys), OK) => (State::Ended(Some(keys)), Reply::Ok),
            (State::SaslFirst(_) | State::SaslFinal(_), OK) => return Err(AuthError::ServerUnproven),
            (State::Start, CLEARTEXT) => (State::Answered, self.cleartext()?),
            (State::Start, MD5) => (State::Answered, self.md5(data)?),
            (State::Start, SASL) => {
                let (exchange, reply) = self.sasl(data, random)?;
                (State::SaslFirst(exchange), reply)
            }
            (State::SaslFirst(exchange), SASL_CONTINUE) => {
                let (password, keys) = (self.credentials.password.as_ref(), self.credentials.keys.as_ref());
                let (client_final, next) = exchange.respond(data, password, keys)?;
                (State::SaslFinal(next), Reply::Send(client_final))
            }
            (State::SaslFinal(exchange), SASL_FINAL) => {
                (State::Proved(exchange.finish(data)?), Reply::Continue)
            }
            (State::Start, other) => return Err(unsupported(other)),
            (State::Ended(_), _) => return Err(AuthError::Ended),
            _ => {
                return Err(AuthError::Malformed(
                    "the server's authentication messages are out of order",
                ));
            }
        };
        self.state = state;
        Ok(reply)
    }

    /// The keys of a SCRAM login that succeeded, to be kept for the next one; none before [`Reply::Ok`].
    pub fn into_keys(self) -> Option<SaltedKeys> {
        match self.state {
            State::Ended(keys) => keys,
            _ => None,
        }
    }

    fn cleartext(&self) -> Result<Reply, AuthError> {
        let password = self
            .credentials
            .password
            .as_ref()
            .ok_or(AuthError::NoSecret { asked: "password" })?;
        terminated(password.reveal())
    }

    fn md5(&self, data: &[u8]) -> Result<Reply, AuthError> {
        let salt = data
            .try_into()
            .map_err(|_| AuthError::Malformed("the md5 salt is not four bytes long"))?;
        let Credentials {
            user, password, md5, ..
        } = &self.credentials;
        let from_password = || {
            password
                .as_ref()
                .map(|password| Md5Hash::derive(password.reveal(), user))
        };
        let hash = md5
            .or_else(from_password)
            .ok_or(AuthError::NoSecret { asked: "md5" })?;
        terminated(&hash.respond(salt))
    }

    fn sasl(&self, data: &[u8], random: Random<'_>) -> Result<(ClientExchange, Reply), AuthError> {
        if self.credentials.password.is_none() && self.credentials.keys.is_none() {
            return Err(AuthError::NoSecret { asked: MECHANISM });
        }
        let offered = |name: &str| {
            data.split(|byte| *byte == 0)
                .any(|offer| offer == name.as_bytes())
        };
        let (mechanism, binding) = match &self.binding {
            Some(binding) if offered(MECHANISM_PLUS) => {
                (MECHANISM_PLUS, ClientBinding::Bound(binding.clone()))
            }
            _ if self.must_bind => return Err(AuthError::Unbound),
            Some(_) if offered(MECHANISM) => (MECHANISM, ClientBinding::NotOffered),
            None if offered(MECHANISM) => (MECHANISM, ClientBinding::Unable),
            _ => return Err(AuthError::Unsupported(format!("SASL mechanisms {}", list(data)))),
        };
        let exchange = ClientExchange::new(scram::nonce(random), &binding);
        let first = exchange.first();
        let len =
            i32::try_from(first.len()).map_err(|_| AuthError::Malformed("our SCRAM message is too long"))?;
        let body = [mechanism.as_bytes(), b"\0", &len.to_be_bytes(), &first].concat();
        Ok((exchange, Reply::Send(body)))
    }
}

/// A password message: the text and one terminator.
fn terminated(text: &[u8]) -> Result<Reply, AuthError> {
    if memchr::memchr(0, text).is_some() {
        return Err(AuthError::NoSecret {
            asked: "a password without zero bytes",
        });
    }
    Ok(Reply::Send([text, b"\0"].concat()))
}

fn unsupported(code: i32) -> AuthError {
    let name = match code {
        2 => "Kerberos V5",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        SASL_CONTINUE | SASL_FINAL => return AuthError::Malformed("a SASL message without a SASL exchange"),
        _ => return AuthError::Unsupported(format!("code {code}")),
    };
    AuthError::Unsupported(name.to_owned())
}

/// The mechanisms that a server offers, for a log line.
fn list(data: &[u8]) -> String {
    const LEN_MAX: usize = 128;
    let clean = |byte: &u8| match byte {
        0 => ' ',
        graphic if graphic.is_ascii_graphic() => char::from(*graphic),
        _ => '?',
    };
    data.iter()
        .take(LEN_MAX)
        .map(clean)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(code: i32, data: &[u8], binding: Option<ChannelBinding>) -> Result<Reply, AuthError> {
        let credentials = Credentials {
            user: "bob".to_owned(),
            password: Some(Password::new(*b"secret")),
            ..Credentials::default()
        };
        let body = [&code.to_be_bytes(), data].concat();
        ServerAuth::new(credentials, binding)
            .bound()
            .answer(&body, &mut |bytes| bytes.fill(7))
    }

    #[test]
    fn whoever_wants_to_be_bound_tells_nobody_else_anything() {
        let tls = || Some(ChannelBinding::tls_server_end_point(*b"a hash"));
        let (both, plain) = (b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b"SCRAM-SHA-256\0\0");
        for (code, data) in [(OK, &b""[..]), (CLEARTEXT, b""), (MD5, b"salt"), (SASL, plain)] {
            assert_eq!(asked(code, data, tls()), Err(AuthError::Unbound), "{code}");
        }
        assert_eq!(asked(SASL, both, None), Err(AuthError::Unbound));
        let Ok(Reply::Send(first)) = asked(SASL, both, tls()) else {
            panic!("it is what was wanted");
        };
        assert!(first.starts_with(b"SCRAM-SHA-256-PLUS\0"));
    }
}
