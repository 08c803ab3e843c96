//! How an exchange fails, for the operator's log; what the client may read of it is a separate text.

use crate::error::{Refusal, SqlState};

/// Why an authentication exchange ended without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The peer sent something that the protocol does not allow at this point.
    #[error("malformed authentication message: {0}")]
    Malformed(&'static str),
    /// The password, or the proof of knowing it, is wrong; or there is no such user.
    #[error("the password does not match")]
    WrongPassword,
    /// The client believes that channel binding is not offered, or asks for one that is not.
    #[error("client and howdah disagree about the channel bindings on offer")]
    BindingNegotiation,
    /// The client is bound to another TLS channel than this one: somebody is in between.
    #[error("the client's channel binding is not that of this connection")]
    BindingMismatch,
    /// The client asked to act as somebody else (a SASL authorization identity).
    #[error("the client asks for an authorization identity")]
    AuthorizationIdentity,
    /// The exchange has already ended.
    #[error("the authentication exchange has already ended")]
    Ended,

    /// The server's nonce does not continue ours.
    #[error("the server's SCRAM nonce does not continue ours")]
    ServerNonce,
    /// The server asks for an iteration count outside the limits.
    #[error("the server asks for {0} SCRAM iterations")]
    ServerIterations(u64),
    /// The server failed to prove that it knows the user's secret: it may be an impostor.
    #[error("the server's SCRAM signature is wrong")]
    ServerSignature,
    /// The server ended the SCRAM exchange with an error of its own.
    #[error("the server ended the SCRAM exchange: {0}")]
    ServerRefused(String),
    /// The server said "authenticated" before it had proved itself: it may be an impostor.
    #[error("the server skipped the end of the SCRAM exchange")]
    ServerUnproven,
    /// The server asks for what we have no secret for.
    #[error("the server asks for {asked}, and no suitable secret of this user is known")]
    NoSecret {
        /// What was asked for.
        asked: &'static str,
    },
    /// The SCRAM keys at hand were made with another salt or iteration count than the server's.
    #[error("the server's SCRAM verifier of this user differs from howdah's (salt or iteration count)")]
    KeysDoNotFit,
    /// The server offers no login that is bound to the TLS connection, or there is none to bind to.
    #[error("the login cannot be bound to the server's TLS connection")]
    Unbound,
    /// The server asks for an authentication method that is not supported.
    #[error("the server asks for unsupported authentication: {0}")]
    Unsupported(String),
}

impl AuthError {
    /// What the client is told. Everything that depends on a secret gives one and the same text, so that a wrong
    /// password, an unknown user and a user who cannot log in this way look alike.
    pub fn refusal(&self, user: &str) -> Refusal {
        match self {
            Self::Malformed(what) => {
                Refusal::new(SqlState::PROTOCOL_VIOLATION, "malformed authentication message").detail(*what)
            }
            Self::BindingNegotiation | Self::BindingMismatch => {
                Refusal::new(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding failed")
                    .detail(self.to_string())
            }
            Self::Unbound => {
                let message = "channel binding is required to log in to the server";
                Refusal::new(SqlState::INVALID_AUTHORIZATION, message).detail(self.to_string())
            }
            Self::AuthorizationIdentity => Refusal::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "SASL authorization identities are not supported",
            ),
            _ => wrong_password(user),
        }
    }
}

/// The one refusal for everything that has to do with a secret.
pub(super) fn wrong_password(user: &str) -> Refusal {
    let message = format!("password authentication failed for user \"{user}\"");
    Refusal::new(SqlState::INVALID_PASSWORD, message)
}
