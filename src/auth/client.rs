//! The exchange towards a client: howdah asks, the client answers, howdah judges.

use std::mem;

use super::error::wrong_password;
use super::scram::{self, Binding, MECHANISM, MECHANISM_PLUS, ServerExchange, ServerFinal};
use super::{
    AuthError, ChannelBinding, Likeness, Mock, Password, PlainSecret, Random, SaltedKeys, StoredSecret,
    Verifier, same, verify_password,
};
use crate::error::Refusal;

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// They need not.
    Trust,
    /// By the password in clear.
    Password,
    /// By an md5 challenge; by SCRAM where the secret is a SCRAM verifier, as PostgreSQL does.
    Md5,
    /// By SCRAM-SHA-256.
    Scram,
}

/// Who is to prove what.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// How.
    pub method: Method,
    /// The user of the startup message.
    pub user: &'a str,
    /// The user's secret; `None` if there is no such user or no secret, which the client is not told.
    pub secret: Option<&'a StoredSecret>,
    /// What to pretend with where there is no secret.
    pub mock: &'a Mock,
    /// What to offer as channel binding; `None` without TLS.
    pub binding: Option<&'a ChannelBinding>,
}

/// A message of type Authentication for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthRequest {
    /// `AuthenticationCleartextPassword`
    CleartextPassword,
    /// `AuthenticationMD5Password`
    Md5Password {
        /// Fresh for each challenge.
        salt: [u8; 4],
    },
    /// `AuthenticationSASL`
    Sasl {
        /// In the order of preference.
        mechanisms: &'static [&'static str],
    },
    /// `AuthenticationSASLContinue`
    SaslContinue(Vec<u8>),
    /// `AuthenticationSASLFinal`
    SaslFinal(Vec<u8>),
}

impl AuthRequest {
    /// The body of the message: the code and what belongs to it, without type and length.
    pub fn body(&self) -> Vec<u8> {
        let with_code = |code: i32, data: &[u8]| [&code.to_be_bytes(), data].concat();
        match self {
            Self::CleartextPassword => with_code(super::server::CLEARTEXT, &[]),
            Self::Md5Password { salt } => with_code(super::server::MD5, salt),
            Self::Sasl { mechanisms } => {
                let list: String = mechanisms.iter().flat_map(|name| [name, "\0"]).collect();
                with_code(super::server::SASL, &[list.as_bytes(), b"\0"].concat())
            }
            Self::SaslContinue(data) => with_code(super::server::SASL_CONTINUE, data),
            Self::SaslFinal(data) => with_code(super::server::SASL_FINAL, data),
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this, read a message of type `p`, and give its body to [`ClientAuth::answer`].
    Send(AuthRequest),
    /// The client is who it says.
    Done(Admitted),
    /// Send this error and close; the error beside it is for the log.
    Refused(Refusal, AuthError),
}

/// A client that has proved who it is.
#[derive(Debug)]
pub struct Admitted {
    /// What to send before `AuthenticationOk`.
    pub last: Option<AuthRequest>,
    /// What the proof revealed.
    pub proof: Proof,
}

/// What a client's proof revealed, to log into servers with where howdah itself knows no password.
#[derive(Debug)]
pub enum Proof {
    /// Nothing: there was no proof, or an md5 response.
    Nothing,
    /// The password.
    Password(Password),
    /// Keys that fit every server with the same verifier.
    Scram(SaltedKeys),
}

/// The exchange with one client, from the first request to the verdict.
#[derive(Debug)]
pub struct ClientAuth {
    user: String,
    state: State,
}

/// ```text
/// Password ─┐
/// Md5 ──────┼─→ Ended
/// SaslBegin ─→ SaslFinish ─→ Ended
/// ```
#[derive(Debug)]
enum State {
    /// → `Ended`. Who does not exist may have a secret that no password fits, which is as slow to see.
    Password(Option<StoredSecret>),
    /// → `Ended`. Holds the right response; none where no response is right.
    Md5(Option<Password>),
    /// → `SaslFinish` by a client's first SCRAM message, `Ended` by anything else.
    SaslBegin(Sasl),
    /// → `Ended`
    SaslFinish(Box<ServerFinal>, Option<Late>),
    /// Whatever comes now is an error.
    Ended,
}

/// A plain password whose verifier has yet to be made. That is left until a proof has to be judged, when time tells
/// nothing any more: before, a user that exists would be slower to be asked than one that does not.
#[derive(Debug)]
struct Late {
    plain: PlainSecret,
    mock: Mock,
}

/// What a SASL exchange needs once the client has chosen a mechanism.
#[derive(Debug)]
struct Sasl {
    /// If the right one is late, one with the same salt and iteration count.
    verifier: Verifier,
    late: Option<Late>,
    nonce: Vec<u8>,
    binding: Option<ChannelBinding>,
}

impl ClientAuth {
    /// Begins the exchange and says what to send first.
    pub fn begin(challenge: &Challenge<'_>, random: Random<'_>) -> (Self, Step) {
        let (state, step) = match (challenge.method, challenge.secret) {
            (Method::Trust, _) => (
                State::Ended,
                Step::Done(Admitted {
                    last: None,
                    proof: Proof::Nothing,
                }),
            ),
            (Method::Password, secret) => (
                State::Password(secret.cloned().or_else(|| challenge.mock.secret(challenge.user))),
                Step::Send(AuthRequest::CleartextPassword),
            ),
            (Method::Md5, Some(StoredSecret::Scram(_))) | (Method::Scram, _) => {
                State::sasl(challenge, random)
            }
            (Method::Md5, None) if challenge.mock.is_scram() => State::sasl(challenge, random),
            (Method::Md5, secret) => State::md5(secret, challenge.user, random),
        };
        (
            Self {
                user: challenge.user.to_owned(),
                state,
            },
            step,
        )
    }

    /// Whether the next [`answer`](Self::answer) takes milliseconds, or up to half a second where the secret asks for
    /// that. With a plain secret that is so in the first SCRAM exchange of the user.
    pub fn is_slow(&self) -> bool {
        matches!(
            self.state,
            State::Password(Some(StoredSecret::Scram(_))) | State::SaslFinish(_, Some(_))
        )
    }

    /// Reads the body of a message of type `p` and says what to do next.
    pub fn answer(&mut self, body: &[u8]) -> Step {
        let outcome = match mem::replace(&mut self.state, State::Ended) {
            State::Password(secret) => judge_password(secret.as_ref(), &self.user, body).map(Step::Done),
            State::Md5(expected) => judge_md5(expected.as_ref(), body).map(Step::Done),
            State::SaslBegin(mut sasl) => {
                let late = sasl.late.take();
                sasl.choose(body).map(|(server_first, next)| {
                    self.state = State::SaslFinish(Box::new(next), late);
                    Step::Send(AuthRequest::SaslContinue(server_first))
                })
            }
            State::SaslFinish(exchange, late) => {
                judge_scram(*exchange, late, &self.user, body).map(Step::Done)
            }
            State::Ended => Err(AuthError::Ended),
        };
        outcome.unwrap_or_else(|error| Step::Refused(error.refusal(&self.user), error))
    }

    /// The refusal of a user whom the caller has reasons of its own to refuse, in the words of a wrong password.
    pub fn refusal(user: &str) -> Refusal {
        wrong_password(user)
    }
}

impl State {
    fn md5(secret: Option<&StoredSecret>, user: &str, random: Random<'_>) -> (Self, Step) {
        let mut salt = [0; 4];
        random(&mut salt);
        let hash = match secret {
            Some(StoredSecret::Plain(plain)) => {
                Some(super::md5::Md5Hash::derive(plain.password().reveal(), user))
            }
            Some(StoredSecret::Md5(hash)) => Some(*hash),
            Some(StoredSecret::Scram(_)) | None => None,
        };
        let expected = hash.map(|hash| Password::new(hash.respond(salt)));
        (Self::Md5(expected), Step::Send(AuthRequest::Md5Password { salt }))
    }

    fn sasl(challenge: &Challenge<'_>, random: Random<'_>) -> (Self, Step) {
        let Challenge { user, mock, .. } = *challenge;
        let (verifier, late) = match challenge.secret {
            Some(StoredSecret::Plain(plain)) => match plain.known_verifier() {
                Some(verifier) => (verifier.clone(), None),
                None => (
                    mock.like(Likeness::default()).verifier(user),
                    Some(Late {
                        plain: plain.clone(),
                        mock: mock.clone(),
                    }),
                ),
            },
            Some(StoredSecret::Scram(verifier)) => (verifier.clone(), None),
            Some(StoredSecret::Md5(_)) | None => (mock.verifier(user), None),
        };
        let mechanisms: &[&str] = match challenge.binding {
            Some(_) => &[MECHANISM_PLUS, MECHANISM],
            None => &[MECHANISM],
        };
        let sasl = Sasl {
            verifier,
            late,
            nonce: scram::nonce(random),
            binding: challenge.binding.cloned(),
        };
        (
            Self::SaslBegin(sasl),
            Step::Send(AuthRequest::Sasl { mechanisms }),
        )
    }
}

impl Sasl {
    /// Reads a `SASLInitialResponse`: the mechanism that the client chose, and its first message.
    fn choose(self, body: &[u8]) -> Result<(Vec<u8>, ServerFinal), AuthError> {
        let (mechanism, client_first) = read_initial_response(body)?;
        let binding = match (mechanism, self.binding) {
            (chosen, Some(binding)) if chosen == MECHANISM_PLUS.as_bytes() => Binding::Chosen(binding),
            (chosen, Some(_)) if chosen == MECHANISM.as_bytes() => Binding::Declined,
            (chosen, None) if chosen == MECHANISM.as_bytes() => Binding::Absent,
            _ => {
                return Err(AuthError::Malformed(
                    "the client chose a SASL mechanism that was not on offer",
                ));
            }
        };
        ServerExchange::new(self.verifier, self.nonce, binding).first(client_first)
    }
}

fn judge_scram(
    mut exchange: ServerFinal,
    late: Option<Late>,
    user: &str,
    body: &[u8],
) -> Result<Admitted, AuthError> {
    if let Some(Late { plain, mock }) = late {
        exchange = exchange.against(plain.verifier(user, &mock).clone());
    }
    let (server_final, keys) = exchange.last(body)?;
    Ok(Admitted {
        last: Some(AuthRequest::SaslFinal(server_final)),
        proof: Proof::Scram(keys),
    })
}

/// A name, the length of the data as 32 bits (-1 if there are none), and the data to the end of the message.
fn read_initial_response(body: &[u8]) -> Result<(&[u8], &[u8]), AuthError> {
    const BAD: AuthError = AuthError::Malformed("the SASL initial response has the wrong form");
    let end = memchr::memchr(0, body).ok_or(BAD)?;
    let (mechanism, rest) = body.split_at_checked(end).ok_or(BAD)?;
    let (len, data) = rest.get(1..).and_then(<[u8]>::split_first_chunk).ok_or(BAD)?;
    // PostgreSQL allows no data here and asks for them by an empty SASLContinue; every SCRAM client sends them.
    let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| BAD)?;
    if len == data.len() {
        Ok((mechanism, data))
    } else {
        Err(BAD)
    }
}

/// The password in the body of a password message, where howdah itself is not the one to judge it.
pub fn password_in(body: &[u8]) -> Result<Password, AuthError> {
    read_password(body).map(Password::new)
}

/// A password message: the text and one terminator.
fn read_password(body: &[u8]) -> Result<&[u8], AuthError> {
    match body.split_last() {
        Some((0, text)) if memchr::memchr(0, text).is_none() => Ok(text),
        _ => Err(AuthError::Malformed("the password message has the wrong form")),
    }
}

fn judge_password(secret: Option<&StoredSecret>, user: &str, body: &[u8]) -> Result<Admitted, AuthError> {
    let given = read_password(body)?;
    match secret {
        Some(secret) if verify_password(secret, user, given) => Ok(Admitted {
            last: None,
            proof: Proof::Password(Password::new(given)),
        }),
        _ => Err(AuthError::WrongPassword),
    }
}

fn judge_md5(expected: Option<&Password>, body: &[u8]) -> Result<Admitted, AuthError> {
    let given = read_password(body)?;
    match expected {
        Some(expected) if same(expected.reveal(), given) => Ok(Admitted {
            last: None,
            proof: Proof::Nothing,
        }),
        _ => Err(AuthError::WrongPassword),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:HycpC1k9VTfIOSWdvwShmg==$skpPegbfTxlavvni9+R0H4VnrYW9hiLJ87+N+IDDpCw=:\
        KUJ5S6uHyko4v1NeccohrfFGXxdmr71T89QXS/sXraQ=";

    fn begin(method: Method, secret: Option<&StoredSecret>, mock: &Mock) -> ClientAuth {
        let challenge = Challenge {
            method,
            user: "md",
            secret,
            mock,
            binding: None,
        };
        ClientAuth::begin(&challenge, &mut |bytes| bytes.fill(b'x')).0
    }

    fn mock() -> Mock {
        Mock::new(&mut |bytes| bytes.fill(7))
    }

    #[test]
    fn whoever_does_not_exist_is_as_slow_to_be_found_out() {
        let known: StoredSecret = VERIFIER.parse().unwrap();
        let mock = mock().like(Likeness::of(&known));
        for secret in [None, Some(&known)] {
            let mut auth = begin(Method::Password, secret, &mock);
            assert!(auth.is_slow(), "{secret:?}");
            let step = auth.answer(b"wrong\0");
            assert!(
                matches!(step, Step::Refused(_, AuthError::WrongPassword)),
                "{step:?}"
            );
        }
    }

    #[test]
    fn a_plain_password_is_hashed_once_and_not_before_a_proof_is_there() {
        let secret = StoredSecret::plain(*b"pencil");
        for is_first in [true, false] {
            let mut auth = begin(Method::Scram, Some(&secret), &mock());
            assert!(!auth.is_slow(), "to be asked costs nothing");
            let step = auth.answer(b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc");
            assert!(matches!(step, Step::Send(_)), "{step:?}");
            assert_eq!(auth.is_slow(), is_first);
            let proof = [
                b"c=biws,r=abc",
                &*scram::nonce(&mut |bytes| bytes.fill(b'x')),
                b",p=",
            ]
            .concat();
            let step = auth.answer(&[&proof[..], "A".repeat(43).as_bytes(), b"="].concat());
            assert!(
                matches!(step, Step::Refused(_, AuthError::WrongPassword)),
                "{step:?}"
            );
        }
    }
}
