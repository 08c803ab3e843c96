//! The core against a simple model, by random operations.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::fake::{Conn, Fake, Link, key, refusal};
use crate::pool::core::{Core, Gate, Requested, World};
use crate::pool::effects::Effects;
use crate::pool::limits::{Approval, Book, LimitName, Membership, Need, Neighbour};
use crate::pool::line::Ticket;
use crate::pool::slots::{ServerState, SlotId, State};
use crate::pool::wait::{Cell, Grant};
use crate::pool::{Dirt, OpenError, Settings, Waiter};

struct Nobody;

impl Neighbour for Nobody {
    fn longest_idle(&self) -> Option<Instant> {
        None
    }
    fn evict(&self) -> bool {
        false
    }
}

struct Around(Membership);

impl World<Fake> for Around {
    fn is_hopeful(&self) -> bool {
        true
    }

    fn is_quiet(&self, conn: &mut Conn) -> bool {
        !conn.0.is_dead()
    }
    fn mark(&self, conn: &Conn) -> u64 {
        conn.id() + 1
    }
    fn watch(&self, conn: &mut Conn) -> bool {
        !conn.0.is_dead()
    }
    fn approve(&self, need: Option<Need>) -> Option<Approval> {
        match need {
            Some(need) => self.0.approve(need),
            None => self.0.approve_spare(),
        }
    }
    fn content(&self) {
        self.0.content();
    }
    fn yields(&self, held: u32, oldest: Option<Instant>, now: Instant) -> bool {
        self.0.yields(held, oldest, now)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Request,
    Withdraw(usize),
    Collect(usize),
    Release(usize),
    Soil(usize),
    Break(usize),
    Restore(usize, bool),
    Opened(usize),
    Refused(usize, bool),
    Die(usize),
    Sleep(u64),
    Pause,
    Resume,
    Reconnect,
    Resize(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Request),
        2 => any::<usize>().prop_map(Step::Withdraw),
        5 => any::<usize>().prop_map(Step::Collect),
        6 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Soil),
        1 => any::<usize>().prop_map(Step::Break),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(n, ok)| Step::Restore(n, ok)),
        5 => any::<usize>().prop_map(Step::Opened),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, ok)| Step::Refused(n, ok)),
        1 => any::<usize>().prop_map(Step::Die),
        4 => (0_u64..20_000).prop_map(Step::Sleep),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Reconnect),
        1 => (0_u32..6).prop_map(Step::Resize),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (1_u32..5, 0_u32..3, 0_u32..3, 0_u32..4, any::<bool>(), 0_u64..3).prop_map(
        |(pool_size, min_pool_size, reserve_pool_size, max_waiting, server_round_robin, delay)| Settings {
            pool_size,
            min_pool_size,
            reserve_pool_size,
            max_waiting: max_waiting * 4,
            query_wait_timeout: Duration::from_secs(30),
            server_idle_timeout: Duration::from_secs(20),
            server_lifetime: Duration::from_secs(60),
            server_check_delay: (delay > 0).then(|| Duration::from_secs(delay * 5)),
            max_parallel_connects: 2,
            server_round_robin,
            ..Settings::default()
        },
    )
}

type Seat = (Arc<Cell<Conn>>, Ticket);

/// What everybody else holds: if the core gave anything twice or lost it, it would show here.
struct Model {
    core: Core<Fake>,
    around: Around,
    book: Arc<Book>,
    now: Instant,
    /// Those who wait, in the order they came.
    line: VecDeque<Seat>,
    /// Those whose cell has been filled but who have not looked yet.
    served: Vec<Seat>,
    leased: Vec<(SlotId, Conn)>,
    away: Vec<(SlotId, Conn)>,
    opening: Vec<SlotId>,
    links: RefCell<Vec<Arc<Link>>>,
}

fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(n % from.len()))
}

impl Model {
    fn new(settings: Settings, limit: u32) -> Self {
        let book = Book::new();
        book.set(LimitName::Process, limit);
        let nobody: Weak<Nobody> = Weak::new();
        let around = Around(book.join(&key("d", "u"), nobody, Arc::default()));
        let now = Instant::now();
        Self {
            core: Core::new(settings, now),
            around,
            book,
            now,
            line: VecDeque::new(),
            served: Vec::new(),
            leased: Vec::new(),
            away: Vec::new(),
            opening: Vec::new(),
            links: RefCell::default(),
        }
    }

    fn go(&mut self, step: Step) {
        let mut fx = Effects::default();
        let before = self.core.slots.len();
        self.take(step, &mut fx);
        assert!(self.core.slots.len() <= before.max(self.core.settings.size_max()));
        self.absorb(fx);
        self.check();
    }

    fn take(&mut self, step: Step, fx: &mut Effects<Fake>) {
        let (core, now, world) = (&mut self.core, self.now, &self.around);
        match step {
            Step::Request => {
                let mut waiter = Waiter::<Fake>::new();
                match core.request(&mut waiter, 0, now, world, fx) {
                    Requested::Granted(Grant { slot, conn, .. }) => {
                        assert!(self.line.is_empty(), "nobody barges in");
                        self.leased.push((slot, conn));
                    }
                    Requested::Queued(ticket) => self.line.push_back((Arc::clone(waiter.cell()), ticket)),
                    Requested::Refused(_) => {}
                }
            }
            Step::Withdraw(n) => {
                let all = self.line.len() + self.served.len();
                if all > 0 {
                    let n = n % all;
                    let (cell, ticket) = match n.checked_sub(self.line.len()) {
                        None => self.line.remove(n).expect("in range"),
                        Some(n) => self.served.swap_remove(n),
                    };
                    core.withdraw(ticket, &cell, now, world, fx);
                }
            }
            Step::Collect(n) => {
                if let Some((cell, _)) = pick(&mut self.served, n)
                    && let Ok(grant) = cell.take().expect("it was filled")
                {
                    self.leased.push((grant.slot, grant.conn));
                }
            }
            Step::Sleep(ms) => {
                self.now += Duration::from_millis(ms);
                core.tick(self.now, world, fx);
            }
            Step::Pause => {
                core.gate = Gate::Paused;
                core.close_idle(now, fx, |_| false);
                core.settle(now, world);
            }
            Step::Resume => {
                core.gate = Gate::Open;
                core.dispatch(now, world, fx);
            }
            Step::Reconnect => {
                core.generation += 1;
                core.close_idle(now, fx, |_| false);
                core.dispatch(now, world, fx);
            }
            Step::Resize(size) => {
                core.settings.pool_size = size;
                core.close_idle(now, fx, |core| core.slots.len() <= size);
                core.dispatch(now, world, fx);
            }
            other => self.handle(other, fx),
        }
    }

    /// The steps that are about one connection.
    fn handle(&mut self, step: Step, fx: &mut Effects<Fake>) {
        let (core, now, world) = (&mut self.core, self.now, &self.around);
        match step {
            Step::Release(n) => {
                if let Some((slot, conn)) = pick(&mut self.leased, n) {
                    core.release(slot, conn, now, world, fx);
                }
            }
            Step::Soil(n) => {
                if let Some((slot, conn)) = pick(&mut self.leased, n) {
                    core.begin_cleaning(slot, State::cleaning(Dirt::Abandoned), now);
                    self.away.push((slot, conn));
                }
            }
            Step::Break(n) => {
                if let Some((slot, conn)) = pick(&mut self.leased, n) {
                    core.break_off(slot, conn, now, world, fx);
                }
            }
            Step::Restore(n, fit) => {
                if let Some((slot, conn)) = pick(&mut self.away, n) {
                    core.restored(slot, fit.then_some(conn), now, world, fx);
                }
            }
            Step::Opened(n) => {
                if let Some(slot) = pick(&mut self.opening, n) {
                    let link = Arc::new(Link::default());
                    self.links.borrow_mut().push(Arc::clone(&link));
                    core.opened(slot, (Conn(link), Arc::new(0)), 0.5, now, world, fx);
                }
            }
            Step::Refused(n, is_final) => {
                if let Some(slot) = pick(&mut self.opening, n) {
                    let error = OpenError {
                        refusal: refusal(),
                        is_final,
                        note: None,
                    };
                    core.open_failed(slot, error, 0.5, now, world, fx);
                }
            }
            Step::Die(n) => {
                let links = self.links.borrow();
                if !links.is_empty() {
                    links[n % links.len()].die();
                }
            }
            _ => unreachable!("taken before"),
        }
    }

    fn absorb(&mut self, fx: Effects<Fake>) {
        self.opening.extend(fx.open);
        self.away.extend(fx.check);
        for cell in fx.wake {
            let (first, ticket) = self.line.pop_front().expect("only those who wait are served");
            assert!(Arc::ptr_eq(&first, &cell), "first come, first served");
            self.served.push((first, ticket));
        }
    }

    fn check(&self) {
        let (core, slots) = (&self.core, &self.core.slots);
        slots.assert_sound();
        assert_eq!(core.line.len(), self.line.len());
        let count = |state| slots.count(state) as usize;
        let handed: usize = self.served.iter().filter(|(cell, _)| cell.is_granted()).count();
        assert_eq!(count(ServerState::Leased), self.leased.len() + handed);
        assert_eq!(count(ServerState::Opening), self.opening.len());
        assert_eq!(
            count(ServerState::Checking) + count(ServerState::Cleaning),
            self.away.len()
        );
        let living = self.links.borrow().iter().filter(|link| !link.is_gone()).count();
        assert_eq!(slots.living() as usize, living, "none is forgotten");
        let (taken, limit) = self.book.get(&LimitName::Process);
        assert_eq!(taken, slots.len());
        assert!(limit == 0 || taken <= limit);
        if core.is_open() && !core.line.is_empty() {
            let coming = count(ServerState::Opening) + count(ServerState::Checking);
            assert!(
                count(ServerState::Idle) == 0 || coming >= core.line.len(),
                "nobody waits beside an idle server"
            );
            let may_grow = core.backoff.until(self.now).is_none()
                && slots.len() < core.settings.pool_size
                && (limit == 0 || taken < limit)
                && !core.backoff.is_probing();
            let enough = coming >= core.line.len() || count(ServerState::Opening) >= 2;
            assert!(
                !may_grow || enough,
                "nobody waits for a server that could be opened"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_server_is_in_two_hands_and_nobody_is_forgotten(
        settings in settings(),
        limit in 0_u32..4,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut model = Model::new(settings, limit);
        for step in steps {
            model.go(step);
        }
    }
}
