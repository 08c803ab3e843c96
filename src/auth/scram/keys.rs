//! Keys from passwords: what a server stores, what a client proves.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

use super::super::{Random, same};
use super::{ITERATIONS_MAX, KEY_LEN, Key, SALT_LEN, SALT_LEN_MAX, decode};

/// How a stored verifier begins.
pub(in super::super) const VERIFIER_PREFIX: &str = "SCRAM-SHA-256$";

/// The keys that prove a password, for one salt and iteration count. As good as the password itself towards a server
/// whose verifier has the same two: cache them, show them to nobody. Their memory is wiped when they are dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedKeys {
    salt: Box<[u8]>,
    iterations: u32,
    client_key: Key,
    server_key: Key,
}

impl SaltedKeys {
    /// Derives the keys from a password. Slow by design: about two milliseconds for PostgreSQL's 4096 iterations.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted: Key = [0; KEY_LEN];
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            salt,
            &prepare(password),
            &mut salted,
        );
        let keys = Self {
            salt: salt.into(),
            iterations: rounds.get(),
            client_key: hmac256(&salted, &[b"Client Key"]),
            server_key: hmac256(&salted, &[b"Server Key"]),
        };
        salted.zeroize();
        keys
    }

    /// The keys that a client's proof revealed, which open the servers whose verifier is this one.
    pub(super) fn revealed(verifier: &Verifier, client_key: Key) -> Self {
        Self {
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
            client_key,
            server_key: verifier.server_key,
        }
    }

    /// Whether these keys answer a server that asks with this salt and iteration count.
    pub fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        *self.salt == *salt && self.iterations == iterations
    }

    /// What a server stores to check these keys.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            iterations: self.iterations,
            salt: self.salt.clone(),
            stored_key: sha256(&self.client_key),
            server_key: self.server_key,
        }
    }

    /// The proof of knowing the client key, for one exchange.
    pub(super) fn proof(&self, auth_message: &[&[u8]]) -> Key {
        xor(
            &self.client_key,
            &hmac256(&sha256(&self.client_key), auth_message),
        )
    }

    /// Whether a server's signature shows that it knows the server key.
    pub(super) fn check_signature(&self, auth_message: &[&[u8]], signature: &[u8]) -> bool {
        same(&hmac256(&self.server_key, auth_message), signature)
    }
}

impl Drop for SaltedKeys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for SaltedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaltedKeys")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// What a server stores of a password: enough to check a client and to prove itself, not enough to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Makes the verifier of a password. Slow by design; do it once per user.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        SaltedKeys::derive(password, salt, iterations).verifier()
    }

    /// A verifier for a user that does not exist. The same user gets the same salt at each attempt, as a user that
    /// exists would; and it fails at each attempt, because nobody knows a key whose hash it holds.
    pub fn mock(user: &str, key: &MockKey, iterations: u32) -> Self {
        Self {
            iterations,
            salt: key.salt(user).into(),
            stored_key: key.part(b"stored key", user),
            server_key: key.part(b"server key", user),
        }
    }

    /// How many times the password is hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt that the password is hashed with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(in super::super) fn stored_key(&self) -> &[u8] {
        &self.stored_key
    }

    /// The client key behind a proof; `None` if the proof is not of this verifier's password.
    pub(super) fn open(&self, auth_message: &[&[u8]], proof: &Key) -> Option<Key> {
        let client_key = xor(proof, &hmac256(&self.stored_key, auth_message));
        same(&sha256(&client_key), &self.stored_key).then_some(client_key)
    }

    /// The signature by which the server proves itself.
    pub(super) fn sign(&self, auth_message: &[&[u8]]) -> Key {
        hmac256(&self.server_key, auth_message)
    }

    /// The stored form, as PostgreSQL writes it to `pg_authid`. It is a secret: for files, not for logs.
    pub fn to_stored(&self) -> String {
        let [salt, stored, server] =
            [&*self.salt, &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        format!("{VERIFIER_PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a stored verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// Not `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    #[error("expected SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
    Form,
    /// The iteration count is no number, zero, or beyond [`ITERATIONS_MAX`].
    #[error("the iteration count must be between 1 and {ITERATIONS_MAX}")]
    Iterations,
    /// The salt is empty, too long or no base64.
    #[error("the salt must be base64 of 1 to {SALT_LEN_MAX} bytes")]
    Salt,
    /// A key is no base64 of 32 bytes.
    #[error("each key must be base64 of 32 bytes")]
    Key,
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix(VERIFIER_PREFIX).ok_or(VerifierError::Form)?;
        let (head, keys) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = head.split_once(':').ok_or(VerifierError::Form)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let iterations = iterations.parse().map_err(|_| VerifierError::Iterations)?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(VerifierError::Iterations);
        }
        let salt = decode_salt(salt.as_bytes()).ok_or(VerifierError::Salt)?;
        let key = |text: &str| decode_key(text.as_bytes()).ok_or(VerifierError::Key);
        Ok(Self {
            iterations,
            salt,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

/// The secret of one process (or of all processes that should look alike), from which mock verifiers are made.
#[derive(Clone)]
pub struct MockKey(Key);

impl MockKey {
    /// A key that nobody can guess. Keep it as long as possible: when it changes, so do the salts of unknown users.
    pub fn new(random: Random<'_>) -> Self {
        let mut key = [0; KEY_LEN];
        random(&mut key);
        Self(key)
    }

    /// The salt of a user: always the same.
    pub fn salt(&self, user: &str) -> [u8; SALT_LEN] {
        let mut salt = [0; SALT_LEN];
        salt.iter_mut()
            .zip(self.part(b"salt", user))
            .for_each(|(to, from)| *to = from);
        salt
    }

    fn part(&self, label: &[u8], user: &str) -> Key {
        hmac256(&self.0, &[label, b"\0", user.as_bytes()])
    }
}

impl fmt::Debug for MockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockKey(***)")
    }
}

/// The password as SCRAM hashes it: prepared by SASLprep (RFC 4013), or as it stands where that cannot be done, because
/// it is no UTF-8 or holds what SASLprep prohibits. PostgreSQL falls back in the same way.
pub fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
    {
        Some(Cow::Owned(prepared)) if !prepared.is_empty() => Cow::Owned(prepared.into_bytes()),
        _ => Cow::Borrowed(password),
    }
}

pub(super) fn decode_salt(text: &[u8]) -> Option<Box<[u8]>> {
    let salt = decode(text)?;
    (1..=SALT_LEN_MAX).contains(&salt.len()).then(|| salt.into())
}

pub(super) fn decode_key(text: &[u8]) -> Option<Key> {
    decode(text)?.try_into().ok()
}

pub(in super::super) fn sha256(data: &[u8]) -> Key {
    let mut out = [0; KEY_LEN];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

fn hmac256(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; KEY_LEN];
    out.copy_from_slice(context.sign().as_ref());
    out
}

fn xor(a: &Key, b: &Key) -> Key {
    let mut out = *a;
    for (out, b) in out.iter_mut().zip(b) {
        *out ^= b;
    }
    out
}
