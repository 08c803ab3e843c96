//! SCRAM towards clients: howdah is the server and holds the verifier.

use super::super::{AuthError, ChannelBinding};
use super::keys::{SaltedKeys, Verifier, decode_key};
use super::{encode, message};

const BINDING_TYPE: &[u8] = b"tls-server-end-point";

/// What was said about channel bindings before the exchange began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// None was on offer: the connection is not encrypted, or its certificate has no hash to bind to.
    Absent,
    /// It was on offer and the client chose the mechanism without.
    Declined,
    /// The client chose `SCRAM-SHA-256-PLUS`.
    Chosen(ChannelBinding),
}

/// An exchange that waits for the client's first message.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    nonce: Vec<u8>,
    binding: Binding,
}

/// An exchange that waits for the client's final message.
#[derive(Debug)]
pub struct ServerFinal {
    verifier: Verifier,
    /// What `c=` must be.
    bound: Vec<u8>,
    client_first_bare: Vec<u8>,
    server_first: Vec<u8>,
    /// The client's nonce, continued by ours.
    nonce: Vec<u8>,
}

impl ServerExchange {
    /// Begins with a user's verifier (or a mock) and a fresh [`nonce`](super::nonce).
    pub fn new(verifier: Verifier, nonce: Vec<u8>, binding: Binding) -> Self {
        Self {
            verifier,
            nonce,
            binding,
        }
    }

    /// Reads the client's first message; gives the answer to it and what comes after.
    ///
    /// The user name in the message is ignored, as PostgreSQL does: the one in the startup message counts.
    pub fn first(self, client_first: &[u8]) -> Result<(Vec<u8>, ServerFinal), AuthError> {
        message::check(client_first)?;
        let (header, bare) = split_header(client_first)?;
        let bound = self.binding.check(header)?;

        let (name, rest) = message::split(bare);
        if message::value(name, b'm').is_some() {
            return Err(AuthError::Malformed(
                "the client requires an unknown SCRAM extension",
            ));
        }
        message::value(name, b'n').ok_or(AuthError::Malformed("the SCRAM user name is missing"))?;
        let (client_nonce, _extensions) = message::split(rest);
        let client_nonce =
            message::value(client_nonce, b'r').ok_or(AuthError::Malformed("the SCRAM nonce is missing"))?;
        if !message::is_nonce(client_nonce) {
            return Err(AuthError::Malformed("the SCRAM nonce is not printable"));
        }

        let nonce = [client_nonce, &self.nonce].concat();
        let iterations = self.verifier.iterations().to_string();
        let salt = encode(self.verifier.salt());
        let server_first = [b"r=", &*nonce, b",s=", &salt, b",i=", iterations.as_bytes()].concat();
        let next = ServerFinal {
            verifier: self.verifier,
            bound,
            client_first_bare: bare.to_vec(),
            server_first: server_first.clone(),
            nonce,
        };
        Ok((server_first, next))
    }
}

impl ServerFinal {
    /// The same exchange, judged by another verifier with the same salt and iteration count.
    #[must_use]
    pub fn against(self, verifier: Verifier) -> Self {
        Self { verifier, ..self }
    }

    /// Reads the client's final message; gives ours, and the keys which the client's proof revealed.
    pub fn last(self, client_final: &[u8]) -> Result<(Vec<u8>, SaltedKeys), AuthError> {
        message::check(client_final)?;
        let (without_proof, proof) =
            message::split_last(client_final).ok_or(AuthError::Malformed("the SCRAM proof is missing"))?;
        let proof = message::value(proof, b'p').ok_or(AuthError::Malformed("the SCRAM proof is missing"))?;

        let (bound, rest) = message::split(without_proof);
        let bound = message::value(bound, b'c')
            .ok_or(AuthError::Malformed("the SCRAM channel binding is missing"))?;
        if bound != self.bound {
            return Err(AuthError::BindingMismatch);
        }
        let (nonce, _extensions) = message::split(rest);
        if message::value(nonce, b'r') != Some(&*self.nonce) {
            return Err(AuthError::Malformed("the SCRAM nonce does not match"));
        }
        let proof =
            decode_key(proof).ok_or(AuthError::Malformed("the SCRAM proof is no base64 of 32 bytes"))?;

        let auth_message = [
            &*self.client_first_bare,
            b",",
            &self.server_first,
            b",",
            without_proof,
        ];
        let client_key = self
            .verifier
            .open(&auth_message, &proof)
            .ok_or(AuthError::WrongPassword)?;
        let signature = encode(&self.verifier.sign(&auth_message));
        Ok((
            [b"v=", &*signature].concat(),
            SaltedKeys::revealed(&self.verifier, client_key),
        ))
    }
}

/// Splits a client's first message into the GS2 header, with its last comma, and the rest.
fn split_header(client_first: &[u8]) -> Result<(&[u8], &[u8]), AuthError> {
    const NO_HEADER: AuthError = AuthError::Malformed("the SCRAM header is missing");
    let (_flag, rest) = message::split_once(client_first).ok_or(NO_HEADER)?;
    let (identity, bare) = message::split_once(rest).ok_or(NO_HEADER)?;
    if message::value(identity, b'a').is_some() {
        return Err(AuthError::AuthorizationIdentity);
    }
    if !identity.is_empty() {
        return Err(NO_HEADER);
    }
    let header = client_first
        .get(..client_first.len().saturating_sub(bare.len()))
        .ok_or(NO_HEADER)?;
    Ok((header, bare))
}

impl Binding {
    /// Checks the flag that opens the GS2 header against what was on offer; gives what `c=` must be in the end.
    fn check(&self, header: &[u8]) -> Result<Vec<u8>, AuthError> {
        let (flag, _) = message::split(header);
        match (flag, self) {
            // "I cannot" is true whatever was on offer; "I could, but you cannot" only if nothing was. Otherwise somebody
            // has edited our offer.
            (b"n", Self::Absent | Self::Declined) | (b"y", Self::Absent) => Ok(encode(header)),
            (b"n" | b"y", _) => Err(AuthError::BindingNegotiation),
            _ => match (message::value(flag, b'p'), self) {
                (Some(BINDING_TYPE), Self::Chosen(binding)) => Ok(binding.attribute(header)),
                (Some(_), _) => Err(AuthError::BindingNegotiation),
                (None, _) => Err(AuthError::Malformed("the SCRAM channel binding flag is unknown")),
            },
        }
    }
}
