//! The decisions of a hub: what it listens to, and who hears what. No IO, no clock, no randomness.

use std::collections::{HashMap, HashSet};

/// A channel's name, in the hub's encoding.
pub(super) type Name = Box<[u8]>;
/// Somebody who listens, unique within the hub.
pub(super) type EarId = u64;
/// What a marker says; nobody can guess one.
pub(super) type Token = u128;

/// Channels that are asked for in one query; longer ones might meet a server that does not read because nobody reads
/// what it sends.
const CHANGES_MAX: usize = 100;

/// Which way a client moves when its marker is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// From then on it hears from the hub.
    Open,
    /// From then on it hears from its server.
    Close,
}

/// Whether the hub's connection listens to a channel.
///
/// ```text
/// Wanted ──► Asked ──► Heard ──► (gone when nobody wants it any more)
///   ▲          │         │
///   └──────────┴─────────┘ the connection is lost
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    Wanted,
    Asked,
    Heard,
}

#[derive(Debug)]
struct Channel {
    hearing: Hearing,
    ears: Vec<EarId>,
}

#[derive(Debug)]
struct Ear<M> {
    mailbox: M,
    channels: Vec<Name>,
    /// How many of its channels the hub does not hear yet.
    missing: usize,
    is_open: bool,
}

#[derive(Debug)]
struct Armed {
    ear: EarId,
    turn: Turn,
    number: u64,
}

/// What the hub's connection is to listen to, and to listen to no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) listen: Vec<Name>,
    pub(super) unlisten: Vec<Name>,
}

/// Who hears what. `M` is where somebody's notifications go.
#[derive(Debug)]
pub(super) struct Core<M> {
    ears: HashMap<EarId, Ear<M>>,
    channels: HashMap<Name, Channel>,
    turns: HashMap<Token, Armed>,
    /// Channels to ask for: those that are `Wanted`, and some that are not any more.
    wanted: Vec<Name>,
    /// Channels that the connection hears and nobody wants.
    unwanted: HashSet<Name>,
    /// What has been asked for and not been answered.
    asked: Option<Vec<Name>>,
    next: u64,
}

impl<M: Clone> Core<M> {
    pub(super) fn new() -> Self {
        Self {
            ears: HashMap::new(),
            channels: HashMap::new(),
            turns: HashMap::new(),
            wanted: Vec::new(),
            unwanted: HashSet::new(),
            asked: None,
            next: 1,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Somebody new, who hears nothing yet.
    pub(super) fn join(&mut self, mailbox: M) -> EarId {
        let id = self.number();
        let ear = Ear {
            mailbox,
            channels: Vec::new(),
            missing: 0,
            is_open: false,
        };
        self.ears.insert(id, ear);
        id
    }

    /// What somebody listens to from now on.
    pub(super) fn tune(&mut self, id: EarId, channels: Vec<Name>) {
        let before = match self.ears.get_mut(&id) {
            Some(ear) => std::mem::take(&mut ear.channels),
            None => return,
        };
        let mut missing = 0;
        for name in &channels {
            let channel = self.channels.entry(name.clone()).or_insert_with(|| {
                let hearing = if self.unwanted.remove(name) {
                    Hearing::Heard
                } else {
                    self.wanted.push(name.clone());
                    Hearing::Wanted
                };
                Channel {
                    hearing,
                    ears: Vec::new(),
                }
            });
            if !channel.ears.contains(&id) {
                channel.ears.push(id);
            }
            missing += usize::from(channel.hearing != Hearing::Heard);
        }
        let kept: HashSet<&Name> = channels.iter().collect();
        for name in before.iter().filter(|name| !kept.contains(name)) {
            self.unhear(id, name);
        }
        if let Some(ear) = self.ears.get_mut(&id) {
            ear.channels = channels;
            ear.missing = missing;
        }
    }

    /// Somebody does not want a channel any more.
    fn unhear(&mut self, id: EarId, name: &Name) {
        let Some(channel) = self.channels.get_mut(name) else {
            return;
        };
        channel.ears.retain(|ear| *ear != id);
        // One that has been asked for is given up once it is heard.
        if channel.ears.is_empty() && channel.hearing != Hearing::Asked {
            if channel.hearing == Hearing::Heard {
                self.unwanted.insert(name.clone());
            }
            self.channels.remove(name);
        }
    }

    /// Somebody goes.
    pub(super) fn leave(&mut self, id: EarId) {
        self.tune(id, Vec::new());
        self.ears.remove(&id);
        self.turns.retain(|_, armed| armed.ear != id);
    }

    /// How many listen.
    pub(super) fn len(&self) -> usize {
        self.ears.len()
    }

    /// How many channels they listen to.
    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Those who listen.
    pub(super) fn mailboxes(&self) -> impl Iterator<Item = &M> {
        self.ears.values().map(|ear| &ear.mailbox)
    }

    /// Whether the connection listens to all that somebody listens to.
    pub(super) fn hears(&self, id: EarId) -> bool {
        self.ears.get(&id).is_some_and(|ear| ear.missing == 0)
    }

    /// What the connection is to do next; nothing while it has not done the last thing.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        if self.asked.is_some() {
            return None;
        }
        let mut change = Change::default();
        while change.listen.len() < CHANGES_MAX
            && let Some(name) = self.wanted.pop()
        {
            if let Some(channel) = self.channels.get_mut(&name)
                && channel.hearing == Hearing::Wanted
            {
                channel.hearing = Hearing::Asked;
                change.listen.push(name);
            }
        }
        let room = CHANGES_MAX - change.listen.len();
        change.unlisten = self.unwanted.iter().take(room).cloned().collect();
        for name in &change.unlisten {
            self.unwanted.remove(name);
        }
        if change == Change::default() {
            return None;
        }
        self.asked = Some(change.listen.clone());
        Some(change)
    }

    /// The connection has done it. Returns those whose every channel is heard now.
    pub(super) fn changed(&mut self) -> Vec<M> {
        let mut complete = Vec::new();
        for name in self.asked.take().unwrap_or_default() {
            let Some(channel) = self.channels.get_mut(&name) else {
                continue;
            };
            channel.hearing = Hearing::Heard;
            if channel.ears.is_empty() {
                self.channels.remove(&name);
                self.unwanted.insert(name);
                continue;
            }
            for id in &channel.ears {
                if let Some(ear) = self.ears.get_mut(id) {
                    ear.missing -= 1;
                    if ear.missing == 0 {
                        complete.push(ear.mailbox.clone());
                    }
                }
            }
        }
        complete
    }

    /// Whether there is nothing that the connection does not hear.
    pub(super) fn is_complete(&self) -> bool {
        self.asked.is_none() && self.wanted.is_empty()
    }

    /// A marker is about to be sent. Returns its number: greater than those of all before. `None` if the ear is to open
    /// to what the hub does not hear.
    pub(super) fn arm(&mut self, ear: EarId, turn: Turn, token: Token) -> Option<u64> {
        if turn == Turn::Open && !self.hears(ear) {
            return None;
        }
        let number = self.number();
        self.turns.insert(token, Armed { ear, turn, number });
        Some(number)
    }

    /// It will not be.
    pub(super) fn disarm(&mut self, token: Token) {
        self.turns.remove(&token);
    }

    /// The marker has come through the hub. Returns whom it concerns, and its number.
    pub(super) fn pass(&mut self, token: Token) -> Option<(M, u64)> {
        let armed = self.turns.remove(&token)?;
        let ear = self.ears.get_mut(&armed.ear)?;
        ear.is_open = armed.turn == Turn::Open;
        Some((ear.mailbox.clone(), armed.number))
    }

    /// Who hears a notification on this channel.
    pub(super) fn hearers(&self, channel: &[u8]) -> impl Iterator<Item = &M> {
        let ears = self
            .channels
            .get(channel)
            .map_or(&[][..], |channel| &channel.ears);
        let open = ears.iter().filter_map(|id| self.ears.get(id));
        open.filter(|ear| ear.is_open).map(|ear| &ear.mailbox)
    }

    /// The connection is lost: nothing is heard. Returns those who may have missed something.
    pub(super) fn lose(&mut self) -> Vec<M> {
        self.asked = None;
        self.unwanted.clear();
        self.wanted.clear();
        self.channels.retain(|_, channel| !channel.ears.is_empty());
        for (name, channel) in &mut self.channels {
            channel.hearing = Hearing::Wanted;
            self.wanted.push(name.clone());
        }
        let moving: HashSet<EarId> = self.turns.values().map(|armed| armed.ear).collect();
        let mut deaf = Vec::new();
        for (id, ear) in &mut self.ears {
            ear.missing = ear.channels.len();
            if ear.is_open || moving.contains(id) {
                deaf.push(ear.mailbox.clone());
            }
        }
        deaf
    }

    /// All is heard again: markers that were under way when the connection was lost will not come. Returns them in
    /// their order, as if they had been passed.
    pub(super) fn pass_all(&mut self) -> Vec<(M, u64)> {
        let mut tokens: Vec<_> = self
            .turns
            .iter()
            .map(|(token, armed)| (armed.number, *token))
            .collect();
        tokens.sort_unstable();
        tokens
            .into_iter()
            .filter_map(|(_, token)| self.pass(token))
            .collect()
    }
}

#[cfg(test)]
mod tests;
