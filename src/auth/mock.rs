//! What users that do not exist are made to look like: like those that do.

use super::scram::{ITERATIONS_DEFAULT, MockKey, Verifier};
use super::{Random, StoredSecret};

/// What can be seen of a user's secret before any proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Likeness {
    /// The client is asked for SCRAM where the method is md5.
    is_scram: bool,
    /// The iteration count of the verifier.
    iterations: u32,
}

impl Default for Likeness {
    fn default() -> Self {
        Self {
            is_scram: false,
            iterations: ITERATIONS_DEFAULT,
        }
    }
}

impl Likeness {
    /// Of a user with this secret.
    pub fn of(secret: &StoredSecret) -> Self {
        match secret {
            StoredSecret::Plain(_) | StoredSecret::Md5(_) => Self::default(),
            StoredSecret::Scram(verifier) => Self {
                is_scram: true,
                iterations: verifier.iterations(),
            },
        }
    }

    /// Of most of these.
    pub fn of_most<'a>(secrets: impl Iterator<Item = &'a StoredSecret>) -> Self {
        let mut counts = std::collections::BTreeMap::new();
        for secret in secrets {
            *counts.entry(Self::of(secret)).or_insert(0_u32) += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map_or_else(Self::default, |(likeness, _)| likeness)
    }
}

/// What to pretend with.
#[derive(Clone, Debug)]
pub struct Mock {
    key: MockKey,
    likeness: Likeness,
}

impl Mock {
    /// By a key that is drawn from this source, with the looks of the most usual secret there is.
    pub fn new(random: Random<'_>) -> Self {
        Self {
            key: MockKey::new(random),
            likeness: Likeness::default(),
        }
    }

    /// The same with these looks.
    #[must_use]
    pub fn like(&self, likeness: Likeness) -> Self {
        Self {
            key: self.key.clone(),
            likeness,
        }
    }

    /// Whether a user without a secret is asked for SCRAM where the method is md5.
    pub(super) fn is_scram(&self) -> bool {
        self.likeness.is_scram
    }

    /// A secret that no password fits, where to find that out takes time.
    pub(super) fn secret(&self, user: &str) -> Option<StoredSecret> {
        self.is_scram().then(|| StoredSecret::Scram(self.verifier(user)))
    }

    /// A verifier that no password fits.
    pub(super) fn verifier(&self, user: &str) -> Verifier {
        Verifier::mock(user, &self.key, self.likeness.iterations)
    }

    /// The salt of this user, whether or not there is one.
    pub(super) fn salt(&self, user: &str) -> [u8; super::scram::SALT_LEN] {
        self.key.salt(user)
    }
}
