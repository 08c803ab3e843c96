//! Who somebody is: which way of proving it lies before them, and the exchange that takes them along it.
//!
//! Two steps, and nothing else of a login knows what is in them. [`Gate::choose`] decides from facts, without a word to
//! the client: the method, and the secret to prove knowledge of, wherever that comes from. [`Gate::pass`] talks to the
//! client and says in the end what the proof has taught.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::hba::Origin;
use crate::auth::{
    Admitted, AuthError, AuthRequest, Challenge, ChannelBinding, ClientAuth, Learned, Method, Random, Step,
    StoredSecret,
};
use crate::error::Refusal;
use crate::farewell::{Denial, Farewell};
use crate::net::PeerCertificate;

use super::door::Door;
use super::lookup::{Found, secret_of};
use crate::client::front::{Front, House};

/// How long after the client's last word a wrong proof is refused: longer than any of the reasons for it takes to find,
/// so that the time tells nothing of the reason; and nobody tries many passwords one after the other.
pub(super) const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// What is known of somebody who asks to be let in; a choice rests on this alone.
pub(super) struct Caller<'a> {
    /// The role of the startup message.
    pub(super) user: &'a str,
    /// The database of the startup message, or the console's name.
    pub(super) database: &'a str,
    /// Where the connection comes from.
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
    /// What it has to prove knowledge of.
    found: Found,
}

/// What has been said in an exchange so far: enough to judge it once more.
#[derive(Default)]
struct Minutes {
    /// What was drawn by lot.
    dice: Vec<u8>,
    asked: Vec<AuthRequest>,
    answered: Vec<Vec<u8>>,
}

impl Gate {
    /// The gate for this caller. It may take a while to find: a server may have to be asked.
    pub(super) async fn choose(
        caller: &Caller<'_>,
        method: Method,
        front: &Arc<Front>,
        house: &House,
    ) -> Result<Self, Farewell> {
        let found = match method {
            Method::Trust => Found::default(),
            _ => Box::pin(secret_of(caller, front, house, false)).await?,
        };
        Ok(Self { method, found })
    }

    /// Lets the caller prove itself, and returns what that teaches of how to log in at servers. `AuthenticationOk` is
    /// left to the login, which may fail yet.
    pub(super) async fn pass(
        mut self,
        caller: &Caller<'_>,
        door: &mut Door,
        front: &Arc<Front>,
        house: &House,
    ) -> Result<Learned, Farewell> {
        let mut minutes = Minutes::default();
        let mut draw = |bytes: &mut [u8]| {
            crate::client::random(bytes);
            minutes.dice.extend_from_slice(bytes);
        };
        let (mut auth, mut step) = self.begin(caller, front, &mut draw);
        let mut heard_at = Instant::now();
        loop {
            match step {
                Step::Send(request) => {
                    door.authentication(&request.body());
                    door.flush().await?;
                    let answer = door.password_message().await?;
                    heard_at = Instant::now();
                    minutes.asked.push(request);
                    minutes.answered.push(answer.clone());
                    (auth, step) = judge(auth, answer, front).await;
                }
                Step::Done(admitted) => return Ok(self.admit(admitted, door)),
                Step::Refused(refusal, AuthError::WrongPassword) => {
                    let opinion = Box::pin(self.second_opinion(caller, front, house, &minutes));
                    if let Some(admitted) = opinion.await {
                        return Ok(self.admit(admitted, door));
                    }
                    tokio::time::sleep_until(heard_at + REFUSAL_PAUSE).await;
                    return Err(self.refuse(refusal, &AuthError::WrongPassword, door, front));
                }
                Step::Refused(refusal, error) => return Err(self.refuse(refusal, &error, door, front)),
            }
        }
    }

    fn begin(&self, caller: &Caller<'_>, front: &Front, random: Random<'_>) -> (ClientAuth, Step) {
        let mock = front.mock(self.found.asked.is_some());
        let challenge = Challenge {
            method: self.method,
            user: caller.user,
            secret: self.found.secret.as_deref(),
            mock: &mock,
            binding: caller.binding.as_ref(),
        };
        ClientAuth::begin(&challenge, random)
    }

    fn admit(&self, admitted: Admitted, door: &mut Door) -> Learned {
        if let Some(last) = &admitted.last {
            door.authentication(&last.body());
        }
        let secret = self.found.secret.as_deref();
        let learned = Learned::from_proof(admitted.proof, secret);
        match secret {
            Some(secret) if self.found.asked.is_some() => learned.and(secret),
            _ => learned,
        }
    }

    /// The proof is wrong by what was remembered of the user; perhaps it is right by what the server says now. A SCRAM
    /// exchange cannot be judged again, for it rests on the old salt.
    async fn second_opinion(
        &mut self,
        caller: &Caller<'_>,
        front: &Arc<Front>,
        house: &House,
        minutes: &Minutes,
    ) -> Option<Admitted> {
        let (_, old) = self.found.asked.as_ref()?;
        let ([request], [answer]) = (minutes.asked.as_slice(), minutes.answered.as_slice()) else {
            return None;
        };
        let found = secret_of(caller, front, house, true).await.ok()?;
        found.asked.as_ref().filter(|(_, at)| at != old)?;
        self.found = found;
        let mut dice = minutes.dice.iter().copied();
        let mut again = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = dice.next().unwrap_or(0));
        let (auth, step) = self.begin(caller, front, &mut again);
        if !matches!(step, Step::Send(same) if same == *request) {
            return None;
        }
        match judge(auth, answer.clone(), front).await {
            (_, Step::Done(admitted)) => Some(admitted),
            _ => None,
        }
    }

    fn refuse(&self, refusal: Refusal, error: &AuthError, door: &mut Door, front: &Front) -> Farewell {
        if let Some((wanted, at)) = &self.found.asked {
            front.secrets.lock().doubt(wanted, *at);
        }
        door.note = Some(match (error, self.found.secret.as_deref()) {
            (AuthError::WrongPassword, None) => "there is no such user, or no secret of it".to_owned(),
            (AuthError::WrongPassword, Some(StoredSecret::Md5(_))) if self.method == Method::Scram => {
                "the secret of this user is an md5 hash, which will not do for SCRAM".to_owned()
            }
            _ => error.to_string(),
        });
        Farewell::LoginRefused(denial(error), refusal)
    }
}

/// What to do after a client's answer. What takes long by design is not done on the workers.
async fn judge(mut auth: ClientAuth, answer: Vec<u8>, front: &Front) -> (ClientAuth, Step) {
    let is_slow = auth.is_slow();
    let judge = move || {
        let step = auth.answer(&answer);
        (auth, step)
    };
    if is_slow {
        front.hashing.run(judge).await
    } else {
        judge()
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
