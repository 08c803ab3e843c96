//! What servers have said of users' secrets: who is asked for once, and for how long an answer holds.
//!
//! No IO and no clock: it says who has to ask, and everybody else waits for that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::{Likeness, StoredSecret};

/// Answers that are kept. Past it those that say "no such user" go, whose names come from strangers; then all.
const ANSWERS_MAX: usize = 10_000;
/// How old an answer must be to be doubted: of each user no more is asked than once in so long, however often a login
/// fails.
pub(super) const DOUBT_AGE: Duration = Duration::from_secs(1);

/// Where somebody is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The database, by its name in the configuration.
    pub(super) database: String,
    /// The role that asks.
    pub(super) role: String,
    /// The question.
    pub(super) query: String,
}

/// Who is asked for, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) place: Arc<Place>,
    pub(super) user: String,
}

/// What a server said of a user: the secret, or `None` if nothing will let that user in.
pub(super) type Secret = Option<Arc<StoredSecret>>;

/// The server could not be asked. Why is in the log; those who want to be let in are told nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unanswered;

/// An answer, and when it was given.
#[derive(Clone, Debug)]
pub(in crate::client) struct Known {
    pub(super) secret: Secret,
    pub(super) at: Instant,
}

/// How an answer arrives at those who wait for it; nothing if the one who asked gave up.
type Waiting = watch::Receiver<Option<Result<Known, Unanswered>>>;

/// The answers.
#[derive(Debug, Default)]
pub(in crate::client) struct Secrets {
    entries: HashMap<Wanted, Entry>,
    questions: u64,
    /// What the last secret looked like.
    likeness: Option<Likeness>,
}

#[derive(Debug)]
enum Entry {
    Known {
        known: Known,
        /// For how long it holds.
        ttl: Duration,
        is_doubted: bool,
    },
    Asked {
        number: u64,
        waiting: Arc<Sender>,
    },
}

type Sender = watch::Sender<Option<Result<Known, Unanswered>>>;

/// What to do for somebody.
pub(super) enum Find {
    /// It is known.
    Known(Known),
    /// It is being asked.
    Wait(Waiting),
    /// It has to be asked.
    Ask(Question, Waiting),
}

/// The duty to ask a question.
pub(super) struct Question {
    number: u64,
    ttl: Duration,
    waiting: Arc<Sender>,
}

impl Question {
    /// Ends when nobody waits for the answer any more.
    pub(super) async fn is_idle(&self) {
        self.waiting.closed().await;
    }
}

impl Secrets {
    /// What is known, or what has to be done to know it. Answers hold for `ttl`, doubtful ones for [`DOUBT_AGE`].
    pub(super) fn find(&mut self, wanted: &Wanted, ttl: Duration, is_doubted: bool, now: Instant) -> Find {
        match self.entries.get(wanted) {
            Some(Entry::Asked { waiting, .. }) => return Find::Wait(waiting.subscribe()),
            Some(Entry::Known {
                known,
                ttl,
                is_doubted: was_doubted,
            }) => {
                let is_doubted = is_doubted || *was_doubted;
                let holds = if is_doubted { DOUBT_AGE.min(*ttl) } else { *ttl };
                if now.duration_since(known.at) < holds {
                    return Find::Known(known.clone());
                }
            }
            None => self.make_room(now),
        }
        let (waiting, receiver) = watch::channel(None);
        let waiting = Arc::new(waiting);
        self.questions += 1;
        let number = self.questions;
        let entry = Entry::Asked {
            number,
            waiting: waiting.clone(),
        };
        self.entries.insert(wanted.clone(), entry);
        Find::Ask(Question { number, ttl, waiting }, receiver)
    }

    /// Takes an answer in and passes it on; `None`: the question was given up. What was forgotten meanwhile is passed on
    /// and not kept.
    pub(super) fn settle(
        &mut self,
        wanted: &Wanted,
        question: &Question,
        answer: Option<Result<Known, Unanswered>>,
    ) {
        let is_open = matches!(self.entries.get(wanted), Some(Entry::Asked { number, .. }) if *number == question.number);
        if is_open {
            self.entries.remove(wanted);
            if let Some(Ok(known)) = &answer {
                let known = known.clone();
                let entry = Entry::Known {
                    known,
                    ttl: question.ttl,
                    is_doubted: false,
                };
                self.entries.insert(wanted.clone(), entry);
            }
        }
        if let Some(Ok(Known {
            secret: Some(secret), ..
        })) = &answer
        {
            self.likeness = Some(Likeness::of(secret));
        }
        question.waiting.send_replace(answer);
    }

    /// What the secrets that servers tell look like; `None` if none has been told.
    pub(in crate::client) fn likeness(&self) -> Option<Likeness> {
        self.likeness
    }

    /// A login against the answer of that time has failed.
    pub(super) fn doubt(&mut self, wanted: &Wanted, at: Instant) {
        if let Some(Entry::Known {
            known, is_doubted, ..
        }) = self.entries.get_mut(wanted)
            && known.at == at
        {
            *is_doubted = true;
        }
    }

    /// Forgets everything: the servers may be others now.
    pub(in crate::client) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Forgets answers that do not hold any more.
    pub(in crate::client) fn forget_old(&mut self, now: Instant) {
        self.entries.retain(|_, entry| match entry {
            Entry::Known { known, ttl, .. } => now.duration_since(known.at) < *ttl,
            Entry::Asked { .. } => true,
        });
    }

    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < ANSWERS_MAX {
            return;
        }
        self.forget_old(now);
        let is_asked = |entry: &Entry| matches!(entry, Entry::Asked { .. });
        if self.entries.len() >= ANSWERS_MAX {
            let is_user =
                |entry: &Entry| matches!(entry, Entry::Known { known, .. } if known.secret.is_some());
            self.entries.retain(|_, entry| is_asked(entry) || is_user(entry));
        }
        if self.entries.len() >= ANSWERS_MAX {
            self.entries.retain(|_, entry| is_asked(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn wanted(user: &str) -> Wanted {
        let place = Place {
            database: "app".to_owned(),
            role: "asker".to_owned(),
            query: "SELECT".to_owned(),
        };
        Wanted {
            place: Arc::new(place),
            user: user.to_owned(),
        }
    }

    fn known(secret: &str, at: Instant) -> Known {
        let secret = (!secret.is_empty()).then(|| Arc::new(StoredSecret::plain(secret.as_bytes())));
        Known { secret, at }
    }

    /// Asks for a user and settles the question at once; `false` if there was nothing to ask.
    fn ask(secrets: &mut Secrets, user: &str, now: Instant) -> bool {
        match secrets.find(&wanted(user), TTL, false, now) {
            Find::Ask(question, _) => {
                secrets.settle(&wanted(user), &question, Some(Ok(known("x", now))));
                true
            }
            Find::Known(_) => false,
            Find::Wait(_) => panic!("nobody is asking"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_its_time() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        assert!(ask(&mut secrets, "bob", now));
        assert!(!ask(&mut secrets, "bob", now + TTL / 2));
        assert!(
            ask(&mut secrets, "alice", now + TTL / 2),
            "of somebody else nothing is known"
        );
        assert!(ask(&mut secrets, "bob", now + TTL));
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_and_the_others_wait() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        let Find::Ask(question, mut first) = secrets.find(&wanted("bob"), TTL, false, now) else {
            panic!("nothing is known")
        };
        let Find::Wait(mut second) = secrets.find(&wanted("bob"), TTL, false, now) else {
            panic!("it is being asked")
        };
        secrets.settle(&wanted("bob"), &question, Some(Ok(known("", now))));
        for waiting in [&mut first, &mut second] {
            let answer = waiting.wait_for(Option::is_some).await.unwrap().clone();
            assert!(answer.unwrap().unwrap().secret.is_none());
        }
        assert!(
            !ask(&mut secrets, "bob", now),
            "also that there is no such user is known"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_not_kept() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        for answer in [Some(Err(Unanswered)), None] {
            let Find::Ask(question, _) = secrets.find(&wanted("bob"), TTL, false, now) else {
                panic!("nothing is known")
            };
            secrets.settle(&wanted("bob"), &question, answer);
        }
        assert!(ask(&mut secrets, "bob", now));
    }

    #[tokio::test(start_paused = true)]
    async fn doubt_makes_an_answer_old_but_not_at_once() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        assert!(ask(&mut secrets, "bob", now));
        secrets.doubt(&wanted("bob"), now);
        assert!(!ask(&mut secrets, "bob", now + DOUBT_AGE / 2));
        assert!(ask(&mut secrets, "bob", now + DOUBT_AGE));
        secrets.doubt(&wanted("bob"), now);
        assert!(
            !ask(&mut secrets, "bob", now + 3 * DOUBT_AGE),
            "the doubt was about an older answer"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_from_before_a_change_answers_only_those_who_asked() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        let Find::Ask(question, waiting) = secrets.find(&wanted("bob"), TTL, false, now) else {
            panic!("nothing is known")
        };
        secrets.clear();
        secrets.settle(&wanted("bob"), &question, Some(Ok(known("old", now))));
        assert!(waiting.borrow().is_some());
        assert!(ask(&mut secrets, "bob", now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_idle_when_nobody_waits() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        let Find::Ask(question, waiting) = secrets.find(&wanted("bob"), TTL, false, now) else {
            panic!("nothing is known")
        };
        assert!(tokio::time::timeout(TTL, question.is_idle()).await.is_err());
        drop(waiting);
        question.is_idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cannot_fill_the_memory_nor_drive_users_out_of_it() {
        let (mut secrets, now) = (Secrets::default(), Instant::now());
        assert!(ask(&mut secrets, "bob", now));
        for n in 0..2 * ANSWERS_MAX {
            let stranger = wanted(&format!("stranger {n}"));
            if let Find::Ask(question, _) = secrets.find(&stranger, TTL, false, now) {
                secrets.settle(&stranger, &question, Some(Ok(known("", now))));
            }
            assert!(secrets.entries.len() <= ANSWERS_MAX);
        }
        assert!(!ask(&mut secrets, "bob", now));
        secrets.forget_old(now + TTL);
        assert!(secrets.entries.is_empty());
    }
}
