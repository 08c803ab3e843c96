//! What is known of a user's password, and in which form.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroize;

use super::md5::Md5Hash;
use super::scram::{self, SaltedKeys, Verifier, VerifierError};
use super::{Mock, same};

/// A password in plain bytes. Shown to nobody: its `Debug` is a mask, and its memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// A password from its bytes, which need not be UTF-8.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, to compute with and not to show.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// A plain password that remembers the SCRAM verifier once made from it, because making one is slow by design. Clones
/// share it.
#[derive(Clone, Debug)]
pub struct PlainSecret {
    password: Password,
    verifier: Arc<OnceLock<Verifier>>,
}

impl PlainSecret {
    /// A secret from a plain password.
    pub fn new(password: Password) -> Self {
        Self {
            password,
            verifier: Arc::default(),
        }
    }

    /// The password.
    pub fn password(&self) -> &Password {
        &self.password
    }

    /// The verifier of this password, made at the first call (milliseconds of work) and kept. Its salt is the one that
    /// the user would have if it did not exist, so that it does not tell.
    pub fn verifier(&self, user: &str, mock: &Mock) -> &Verifier {
        self.verifier.get_or_init(|| {
            let salt = mock.salt(user);
            Verifier::derive(self.password.reveal(), &salt, scram::ITERATIONS_DEFAULT)
        })
    }

    /// The verifier, if it has been made.
    pub fn known_verifier(&self) -> Option<&Verifier> {
        self.verifier.get()
    }
}

/// A user's secret as configuration or `pg_authid` holds it.
#[derive(Clone, Debug)]
pub enum StoredSecret {
    /// The password itself: good for every method, towards clients and towards servers.
    Plain(PlainSecret),
    /// PostgreSQL's old hash of password and user name: good for `password` and `md5`.
    Md5(Md5Hash),
    /// A SCRAM verifier: good for `password` and `scram-sha-256`.
    Scram(Verifier),
}

/// Why a text is no secret. Never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// An empty password, which PostgreSQL never accepts either.
    #[error("the password is empty")]
    Empty,
    /// It begins like a SCRAM verifier and is none. Taking it for a plain password would hide a slip of the pen.
    #[error("the SCRAM verifier is malformed: {0}")]
    Verifier(#[from] VerifierError),
}

impl StoredSecret {
    /// A secret from a plain password.
    pub fn plain(password: impl Into<Box<[u8]>>) -> Self {
        Self::Plain(PlainSecret::new(Password::new(password)))
    }

    /// Whether both are the same password in plain: then one verifier will do for both.
    pub fn is_same_password(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(other)) => same(one.password.reveal(), other.password.reveal()),
            _ => false,
        }
    }
}

impl FromStr for StoredSecret {
    type Err = SecretError;

    /// Tells the three forms apart as PostgreSQL does: a SCRAM verifier, `md5` and 32 hexadecimal digits, else plain.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.starts_with(scram::VERIFIER_PREFIX) {
            return Ok(Self::Scram(text.parse()?));
        }
        Ok(Md5Hash::parse(text.as_bytes()).map_or_else(|| Self::plain(text.as_bytes()), Self::Md5))
    }
}

/// Whether `given`, a password in plain bytes, is the user's. Slow by design where the secret is a SCRAM verifier.
pub fn verify_password(secret: &StoredSecret, user: &str, given: &[u8]) -> bool {
    // HMAC cannot tell trailing zero bytes from none, so that a SCRAM verifier would let them pass.
    if given.is_empty() || given.contains(&0) {
        return false;
    }
    match secret {
        StoredSecret::Plain(plain) => {
            // Digests, because the comparison itself would tell the password's length.
            let known = scram::sha256(&scram::prepare(plain.password.reveal()));
            same(&known, &scram::sha256(&scram::prepare(given)))
        }
        StoredSecret::Md5(hash) => same(hash.as_hex(), Md5Hash::derive(given, user).as_hex()),
        StoredSecret::Scram(verifier) => {
            let keys = SaltedKeys::derive(given, verifier.salt(), verifier.iterations());
            same(verifier.stored_key(), keys.verifier().stored_key())
        }
    }
}
