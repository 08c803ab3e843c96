//! Who somebody is: which way of proving it lies before them, and the exchange that takes them along it.
//!
//! Two steps, and nothing else of a login knows what is in them. [`Gate::choose`] decides from facts, without a word to
//! the client: the method, and the secret to prove knowledge of, wherever that comes from. [`Gate::pass`] talks to the
//! client and says in the end what the proof revealed.

use std::sync::Arc;

use crate::auth::hba::Origin;
use crate::auth::{AuthError, Challenge, ChannelBinding, ClientAuth, Learned, Method, Step, StoredSecret};
use crate::farewell::{Denial, Farewell};
use crate::net::{PeerAddr, PeerCertificate};

use super::door::Door;
use super::front::{Front, House};

/// What is known of somebody who asks to be let in; a choice rests on this alone.
pub(super) struct Caller<'a> {
    /// The role of the startup message.
    pub(super) user: &'a str,
    /// The database of the startup message, or the console's name.
    pub(super) database: &'a str,
    /// Where the connection comes from.
    pub(super) peer: PeerAddr,
    /// The same as rules see it.
    pub(super) origin: Origin,
    /// The client's certificate, which has been verified.
    pub(super) certificate: Option<PeerCertificate>,
    /// Whether it is to become a connection for physical replication.
    pub(super) is_physical_replication: bool,
    /// What SCRAM can bind to; `None` without TLS.
    pub(super) binding: Option<ChannelBinding>,
}

/// What a caller has to do to be let in.
pub(super) struct Gate {
    /// How the caller proves itself.
    method: Method,
    /// What it has to prove knowledge of; `None` if there is no such user or no secret, which it is not told.
    secret: Option<Arc<StoredSecret>>,
}

impl Gate {
    /// The gate for this caller.
    pub(super) fn choose(caller: &Caller<'_>, method: Method, house: &House) -> Self {
        Self {
            method,
            secret: house.secret(caller.user).cloned(),
        }
    }

    /// Lets the caller prove itself, and returns what that teaches of how to log in at servers. `AuthenticationOk` is
    /// left to the login, which may fail yet.
    pub(super) async fn pass(
        &self,
        caller: &Caller<'_>,
        door: &mut Door,
        front: &Front,
    ) -> Result<Learned, Farewell> {
        let challenge = Challenge {
            method: self.method,
            user: caller.user,
            secret: self.secret.as_deref(),
            mock: &front.mock,
            binding: caller.binding.as_ref(),
        };
        let (mut auth, mut step) = ClientAuth::begin(&challenge, &mut super::random);
        loop {
            match step {
                Step::Send(request) => {
                    door.authentication(&request.body());
                    door.flush().await?;
                    let answer = door.password_message().await?;
                    step = auth.answer(&answer);
                }
                Step::Done(admitted) => {
                    if let Some(last) = &admitted.last {
                        door.authentication(&last.body());
                    }
                    return Ok(Learned::from_proof(admitted.proof, self.secret.as_deref()));
                }
                Step::Refused(refusal, error) => {
                    let Caller {
                        user, database, peer, ..
                    } = caller;
                    tracing::info!(user, database, %peer, %error, "login failed");
                    return Err(Farewell::LoginRefused(denial(&error), refusal));
                }
            }
        }
    }
}

/// Under which reason a failed exchange is counted.
pub(super) fn denial(error: &AuthError) -> Denial {
    match error {
        AuthError::Malformed(_) | AuthError::AuthorizationIdentity => Denial::Protocol,
        AuthError::BindingNegotiation | AuthError::BindingMismatch => Denial::Binding,
        _ => Denial::Password,
    }
}
