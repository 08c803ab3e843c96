//! SCRAM towards servers: howdah is the client, and trusts the server no more than a server trusts a client.

use super::super::{AuthError, ChannelBinding, Password};
use super::keys::{SaltedKeys, decode_key, decode_salt};
use super::{ITERATIONS_MAX, encode, message};

/// The longest part of a server's error that is passed on, in bytes.
const SERVER_ERROR_LEN_MAX: usize = 64;

/// An exchange that waits for the server's first message.
#[derive(Debug)]
pub struct ClientExchange {
    header: &'static [u8],
    /// What `c=` will be.
    bound: Vec<u8>,
    first_bare: Vec<u8>,
    nonce: Vec<u8>,
}

/// An exchange that waits for the server's final message.
#[derive(Debug)]
pub struct ClientFinal {
    keys: SaltedKeys,
    auth_message: Vec<u8>,
}

/// Whether to bind the exchange to the TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientBinding {
    /// We cannot.
    Unable,
    /// We could, and the server did not offer it.
    NotOffered,
    /// The server offered it and we do.
    Bound(ChannelBinding),
}

impl ClientExchange {
    /// Begins with a fresh [`nonce`](super::nonce).
    pub fn new(nonce: Vec<u8>, binding: &ClientBinding) -> Self {
        let (header, bound): (&'static [u8], _) = match binding {
            ClientBinding::Unable => (b"n,,", encode(b"n,,")),
            ClientBinding::NotOffered => (b"y,,", encode(b"y,,")),
            ClientBinding::Bound(binding) => {
                const HEADER: &[u8] = b"p=tls-server-end-point,,";
                (HEADER, binding.attribute(HEADER))
            }
        };
        // The user name stays empty: PostgreSQL takes the one of the startup message.
        let first_bare = [b"n=,r=", &*nonce].concat();
        Self {
            header,
            bound,
            first_bare,
            nonce,
        }
    }

    /// Our first message.
    pub fn first(&self) -> Vec<u8> {
        [self.header, &self.first_bare].concat()
    }

    /// Reads the server's first message; gives our final one and what comes after.
    ///
    /// Keys that fit are used as they are; otherwise they are derived from the password, which takes time in
    /// proportion to the server's iteration count (two milliseconds to half a second).
    pub fn respond(
        self,
        server_first: &[u8],
        password: Option<&Password>,
        known: Option<&SaltedKeys>,
    ) -> Result<(Vec<u8>, ClientFinal), AuthError> {
        let asked = ServerFirst::read(server_first, &self.nonce)?;
        let keys = match (known, password) {
            (Some(keys), _) if keys.fit(&asked.salt, asked.iterations) => keys.clone(),
            (_, Some(password)) => SaltedKeys::derive(password.reveal(), &asked.salt, asked.iterations),
            (Some(_), None) => return Err(AuthError::KeysDoNotFit),
            (None, None) => {
                return Err(AuthError::NoSecret {
                    asked: super::MECHANISM,
                });
            }
        };
        let without_proof = [b"c=", &*self.bound, b",r=", asked.nonce].concat();
        let auth_message = [&*self.first_bare, b",", server_first, b",", &without_proof].concat();
        let proof = encode(&keys.proof(&[&auth_message]));
        let client_final = [&*without_proof, b",p=", &proof].concat();
        Ok((client_final, ClientFinal { keys, auth_message }))
    }
}

impl ClientFinal {
    /// Reads the server's final message. The keys, worth caching now, are given back if the server has proved that it
    /// knows the user's secret too.
    pub fn finish(self, server_final: &[u8]) -> Result<SaltedKeys, AuthError> {
        message::check(server_final)?;
        let (outcome, _extensions) = message::split(server_final);
        if let Some(error) = message::value(outcome, b'e') {
            return Err(AuthError::ServerRefused(printable(error)));
        }
        let signature = message::value(outcome, b'v')
            .and_then(decode_key)
            .ok_or(AuthError::Malformed("the server's SCRAM signature is missing"))?;
        if !self.keys.check_signature(&[&self.auth_message], &signature) {
            return Err(AuthError::ServerSignature);
        }
        Ok(self.keys)
    }
}

/// What the server asks for in its first message.
struct ServerFirst<'a> {
    nonce: &'a [u8],
    salt: Box<[u8]>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn read(server_first: &'a [u8], client_nonce: &[u8]) -> Result<Self, AuthError> {
        message::check(server_first)?;
        let (nonce, rest) = message::split(server_first);
        if message::value(nonce, b'm').is_some() {
            return Err(AuthError::Malformed(
                "the server requires an unknown SCRAM extension",
            ));
        }
        let nonce =
            message::value(nonce, b'r').ok_or(AuthError::Malformed("the server's SCRAM nonce is missing"))?;
        let theirs = nonce.strip_prefix(client_nonce).ok_or(AuthError::ServerNonce)?;
        if !message::is_nonce(theirs) {
            return Err(AuthError::ServerNonce);
        }
        let (salt, rest) = message::split(rest);
        let salt = message::value(salt, b's')
            .and_then(decode_salt)
            .ok_or(AuthError::Malformed(
                "the server's SCRAM salt is missing, too long or no base64",
            ))?;
        let (iterations, _extensions) = message::split(rest);
        let iterations = message::value(iterations, b'i')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok())
            .ok_or(AuthError::Malformed(
                "the server's SCRAM iteration count is missing",
            ))?;
        let within = u32::try_from(iterations)
            .ok()
            .filter(|count| (1..=ITERATIONS_MAX).contains(count));
        Ok(Self {
            nonce,
            salt,
            iterations: within.ok_or(AuthError::ServerIterations(iterations))?,
        })
    }
}

/// A server's words, made safe for a log line.
fn printable(text: &[u8]) -> String {
    let clean = |byte: &u8| {
        if byte.is_ascii_graphic() || *byte == b' ' {
            char::from(*byte)
        } else {
            '?'
        }
    };
    text.iter().take(SERVER_ERROR_LEN_MAX).map(clean).collect()
}
