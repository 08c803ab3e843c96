//! What a client may have set that no question finds: a custom setting whose name a function has computed, the seed of
//! `random()`. Nobody else is to find it.

use super::plans::Outdated;
use super::{Connection, Extra, Failure, Settings};

/// So many custom settings, of whomever, a server may have had. It never forgets one, and goes through all of them whenever it is
/// asked for every setting: with 100,000 it takes 160 ms for that instead of 3.
const CUSTOMS_MAX: usize = 1024;

/// A client that has gone.
pub(super) const SOMEBODY: u64 = u64::MAX;

/// What is known, and what is not, of the custom settings of a session.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// The client that may have set what nobody knows of; 0 is none.
    of: u64,
    /// Custom settings that had a value here once, sorted: they are empty from then on, and never again without one.
    customs: Vec<Box<[u8]>>,
    /// There have been more than anybody remembers.
    is_crowded: bool,
    /// Why plans may hold what is no longer so.
    pub(super) outdated: Outdated,
}

impl Connection {
    /// This client may have set what no question finds.
    pub fn has_unseen_of(&mut self, client: u64) {
        self.unseen.of = client;
    }

    /// The session has, or had, these settings.
    pub fn see(&mut self, settings: &Extra) {
        for (name, _) in settings.iter().filter(|(name, _)| name.contains(&b'.')) {
            let at = self.unseen.customs.binary_search_by(|have| (**have).cmp(name));
            if let Err(at) = at
                && self.unseen.customs.len() < CUSTOMS_MAX
            {
                self.unseen.customs.insert(at, name.into());
            }
        }
    }

    /// Whether the session is known to have had a custom setting of this name before.
    pub fn has_seen(&self, name: &[u8]) -> bool {
        self.unseen
            .customs
            .binary_search_by(|have| (**have).cmp(name))
            .is_ok()
    }

    /// The session has had more custom settings than anybody remembers.
    pub fn crowd(&mut self) {
        self.unseen.is_crowded = true;
    }

    /// Whether the session has had so many custom settings that nobody else is to have it.
    pub fn is_crowded(&self) -> bool {
        self.unseen.is_crowded || self.unseen.customs.len() >= CUSTOMS_MAX
    }

    /// Brings the session to what this client left elsewhere. Costs nothing if it is there already, and nothing that
    /// only another client knows of is on it.
    pub async fn align_for(&mut self, client: u64, wanted: &Settings) -> Result<(), Failure> {
        self.outdate_plans(self.settings.outdated_for(wanted));
        if self.unseen.of != 0 && self.unseen.of != client {
            self.reset_settings().await?;
        }
        self.align_known(wanted).await
    }

    /// Whether [`Self::align_for`] would have nothing to do; false proves nothing.
    pub fn is_aligned_for(&self, client: u64, wanted: &Settings) -> bool {
        let is_nobodys = self.unseen.of == 0 || self.unseen.of == client;
        self.input.is_empty()
            && self.notifications.is_empty()
            && is_nobodys
            && self.unseen.outdated == Outdated::NOT
            && self.has_no_news()
            && self.settings.is_shared_with(wanted)
    }

    /// Brings the session to `wanted`, for whoever comes next.
    pub async fn align(&mut self, wanted: &Settings) -> Result<(), Failure> {
        self.align_for(0, wanted).await
    }

    /// All settings but the roles are reset, and `random()` gives what nobody can tell beforehand.
    async fn reset_settings(&mut self) -> Result<(), Failure> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).expect("the operating system's random source does not fail");
        // Of a seed between 0 and 1 PostgreSQL takes 52 bits.
        let digits = u64::from_ne_bytes(random) % 10_u64.pow(16);
        self.run(format!("RESET ALL;SET seed TO 0.{digits:016}")).await?;
        self.has_nothing_set(true);
        self.unseen.of = 0;
        Ok(())
    }
}
