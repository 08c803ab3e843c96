//! What howdah is told of how to log in at a server, by those who log in at howdah.

use parking_lot::Mutex;

use crate::auth::{Credentials, Learned, SaltedKeys};

/// What has come to light of how to log in somewhere. Kept in memory, shown to nobody.
#[derive(Debug, Default)]
pub struct Lore(Mutex<Told>);

#[derive(Clone, Debug, Default)]
struct Told {
    /// By clients.
    learned: Learned,
    /// SCRAM keys of the last login, which spare the next one the work of deriving them.
    keys: Option<SaltedKeys>,
    /// The server has asked for what is not known.
    is_wanting: bool,
    /// How often there has been news.
    edition: u64,
}

impl Lore {
    /// What a client has taught.
    pub fn new(learned: Learned) -> Self {
        Self(Mutex::new(Told {
            learned,
            ..Told::default()
        }))
    }

    /// Takes in what a client has taught; tells whether it is news.
    pub fn learn(&self, learned: Learned) -> bool {
        let mut told = self.0.lock();
        let is_news = !learned.is_empty() && learned != told.learned;
        if is_news {
            *told = Told {
                learned,
                edition: told.edition + 1,
                ..Told::default()
            };
        }
        is_news
    }

    /// Whether the server has asked for what is not known, and nothing has been learned since.
    pub fn is_wanting(&self) -> bool {
        self.0.lock().is_wanting
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        let told = self.0.lock();
        told.learned.is_empty() && told.keys.is_none()
    }

    /// Takes over from another, except what the server has asked for: perhaps it does not any more.
    pub fn inherit(&self, other: &Self) {
        let told = other.0.lock().clone();
        *self.0.lock() = Told {
            is_wanting: false,
            ..told
        };
    }

    /// Credentials and what is known beyond them, and which edition of it this is.
    pub(super) fn complete(&self, credentials: &Credentials) -> (Credentials, u64) {
        let told = self.0.lock();
        let mut credentials = credentials.clone();
        credentials.keys = credentials.keys.or_else(|| told.keys.clone());
        (credentials.or(&told.learned), told.edition)
    }

    /// A login has succeeded by this edition, with these keys if it was by SCRAM.
    pub(super) fn was_enough(&self, edition: u64, keys: Option<SaltedKeys>) {
        let mut told = self.0.lock();
        if told.edition == edition {
            told.is_wanting = false;
            told.keys = keys.or(told.keys.take());
        }
    }

    /// The server asks for more than this edition has, or says that it is wrong.
    pub(super) fn was_not_enough(&self, edition: u64) {
        let mut told = self.0.lock();
        told.is_wanting |= told.edition == edition;
    }
}
