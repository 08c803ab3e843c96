//! How those who come to a simulated howdah prove who they are: by SCRAM, of which the configuration holds verifiers. What
//! they reveal is not needed further on, for the simulated hosts trust howdah.

use bytes::BytesMut;

use crate::auth::{Credentials, Password, Reply, ServerAuth, Verifier};
use crate::net::simulated::Dice;
use crate::wire::write;

/// So few that nothing has to be done beside the workers, where virtual time would not wait for it.
const ITERATIONS: u32 = 1;

fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// What the configuration holds of a user.
pub(super) fn stored(user: &str) -> String {
    Verifier::derive(password(user).as_bytes(), b"of some salt", ITERATIONS).to_stored()
}

/// One login, from the side of who comes.
#[derive(Debug)]
pub(super) struct Proof {
    exchange: ServerAuth,
    dice: Dice,
    /// Does not know the password.
    pub(super) is_forged: bool,
}

impl Proof {
    pub(super) fn new(user: &str, is_forged: bool, dice: Dice) -> Self {
        let guess = if is_forged { "a guess" } else { user };
        let credentials = Credentials {
            user: user.to_owned(),
            password: Some(Password::new(password(guess).into_bytes())),
            ..Credentials::default()
        };
        Self {
            exchange: ServerAuth::new(credentials, None),
            dice,
            is_forged,
        }
    }

    /// Answers a message of type Authentication; the error is a fault of howdah's.
    pub(super) fn answer(&mut self, body: &[u8], output: &mut BytesMut) -> Result<(), String> {
        let dice = &mut self.dice;
        let mut random = |bytes: &mut [u8]| bytes.fill_with(|| dice.below(256) as u8);
        match self.exchange.answer(body, &mut random) {
            Ok(Reply::Send(reply)) => {
                write::message(output, b'p', |out| out.extend_from_slice(&reply));
                Ok(())
            }
            Ok(Reply::Continue | Reply::Ok) => Ok(()),
            Err(error) => Err(format!("howdah proves nothing: {error}")),
        }
    }
}
