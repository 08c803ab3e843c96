//! LISTEN and NOTIFY by many at once, judged by what each may and must have heard.

mod common;

use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use common::heard::{heard, run, told_pid};
use common::wire::Frame;
use common::{Cluster, Howdah, Wire, msg};

/// A random number below `limit`, from a seed that moves on.
fn roll(seed: &mut u64, limit: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % limit
}

/// What a client of the storm has done and heard. Times are of one clock.
#[derive(Default)]
struct Diary {
    /// Channel, and from when to when it was listened to for certain, and from when to when at most.
    listened: Vec<(String, [Instant; 2], [Instant; 2])>,
    /// Channel and payload, and when it was sent: at the earliest, and at the latest.
    sent: Vec<(String, String, [Instant; 2])>,
    /// Channel and payload.
    heard: Vec<(String, String)>,
}

const STORM_CHANNELS: u64 = 4;
const STORM_STEPS: u64 = 80;

struct Stormer {
    wire: Wire,
    id: u64,
    seed: u64,
    diary: Diary,
    /// Channels that it listens to: from when at the earliest, and for certain.
    open: std::collections::BTreeMap<String, [Instant; 2]>,
}

impl Stormer {
    /// Runs SQL, checks what is heard, and tells when it began and ended.
    fn run(&mut self, sql: &str) -> [Instant; 2] {
        let begin = Instant::now();
        self.wire.send(&msg::query(sql));
        loop {
            let frame = self.wire.read();
            assert_ne!(frame.kind, b'E', "{sql}: {:?}", frame.error());
            if frame.kind == b'Z' {
                break;
            }
            self.hear(&frame);
        }
        [begin, Instant::now()]
    }

    fn hear(&mut self, frame: &Frame) {
        if let Some(heard) = heard(frame) {
            let own = heard.payload.starts_with(&format!("{}:", self.id));
            assert_eq!(own, heard.pid == told_pid(&self.wire), "{heard:?}");
            self.diary.heard.push((heard.channel, heard.payload));
        }
    }

    fn shut(&mut self, channel: &str, [begin, end]: [Instant; 2]) {
        if let Some([earliest, certain]) = self.open.remove(channel) {
            self.diary
                .listened
                .push((channel.to_owned(), [certain, begin], [earliest, end]));
        }
    }

    fn step(&mut self, step: u64) {
        let channel = format!("c{}", roll(&mut self.seed, STORM_CHANNELS));
        match roll(&mut self.seed, 12) {
            0..=2 => {
                let times = self.run(&format!("LISTEN {channel}"));
                self.open.entry(channel).or_insert(times);
            }
            3 | 4 => {
                let times = self.run(&format!("UNLISTEN {channel}"));
                self.shut(&channel, times);
            }
            5 if step.is_multiple_of(5) => {
                let times = self.run("UNLISTEN *");
                for channel in self.open.keys().cloned().collect::<Vec<_>>() {
                    self.shut(&channel, times);
                }
            }
            6 => {
                self.run("BEGIN");
                self.run(&format!(
                    "UNLISTEN *; LISTEN {channel}; NOTIFY {channel}, 'never'"
                ));
                self.run("ROLLBACK");
            }
            7 => {
                self.run("SELECT 1");
            }
            8 => {
                let begin = self.run("BEGIN")[0];
                self.run("SAVEPOINT s");
                self.run(&format!("UNLISTEN *; NOTIFY {channel}, 'never'"));
                self.run("ROLLBACK TO s");
                self.run(&format!("LISTEN {channel}"));
                let end = self.run("COMMIT")[1];
                self.open.entry(channel).or_insert([begin, end]);
            }
            _ => {
                let payload = format!("{}:{step}", self.id);
                let times = self.run(&format!("NOTIFY {channel}, '{payload}'"));
                let heard = self.diary.heard.contains(&(channel.clone(), payload.clone()));
                let listens = self.open.contains_key(&channel);
                assert_eq!(heard, listens, "one's own comes before the end of the answer");
                self.diary.sent.push((channel, payload, times));
            }
        }
    }

    /// Everything up to a notification that all hear last.
    fn finish(mut self, is_last: &std::sync::Barrier) -> Diary {
        self.run("LISTEN last");
        is_last.wait();
        loop {
            let frame = self.wire.read();
            self.hear(&frame);
            if self
                .diary
                .heard
                .last()
                .is_some_and(|(channel, _)| channel == "last")
            {
                break;
            }
        }
        self.diary.heard.pop();
        let now = [Instant::now(); 2];
        for channel in self.open.keys().cloned().collect::<Vec<_>>() {
            self.shut(&channel, now);
        }
        self.diary
    }
}

#[test]
fn in_a_storm_everybody_hears_what_it_should_once_and_in_the_order_of_the_commits() {
    storm(&Cluster::start(), 3);
}

#[test]
fn a_storm_on_postgresql_18_is_no_other() {
    storm(&Cluster::version(18), 11);
}

fn storm(cluster: &Cluster, seed: u64) {
    const CLIENTS: u64 = 6;
    let howdah = Howdah::with_pool(cluster, 3);
    // A connection of its own hears everything, in the order of the commits.
    let mut recorder = Wire::app(cluster.target());
    run(&mut recorder, "LISTEN last");
    (0..STORM_CHANNELS).for_each(|n| drop(run(&mut recorder, &format!("LISTEN c{n}"))));
    let is_last = std::sync::Barrier::new(usize::try_from(CLIENTS + 1).expect("few"));
    let diaries: Vec<Diary> = thread::scope(|scope| {
        let target = howdah.target();
        let is_last = &is_last;
        let storm = move |id: u64| {
            let mut stormer = Stormer {
                wire: Wire::app(target),
                id,
                seed: seed * 1000 + id + 1,
                diary: Diary::default(),
                open: std::collections::BTreeMap::new(),
            };
            (0..STORM_STEPS).for_each(|step| stormer.step(step));
            stormer.finish(is_last)
        };
        let threads: Vec<_> = (0..CLIENTS).map(|id| scope.spawn(move || storm(id))).collect();
        is_last.wait();
        run(&mut Wire::app(cluster.target()), "NOTIFY last");
        let diaries = threads.into_iter().map(ScopedJoinHandle::join);
        diaries
            .map(|diary| diary.expect("the storm is survived"))
            .collect()
    });
    let mut order = Vec::new();
    loop {
        let Some(heard) = heard(&recorder.read()) else {
            continue;
        };
        if heard.channel == "last" {
            break;
        }
        order.push((heard.channel, heard.payload));
    }
    let sent: Vec<_> = diaries.iter().flat_map(|diary| &diary.sent).collect();
    assert_eq!(sent.len(), order.len(), "the recorder hears all");
    for diary in &diaries {
        let places = diary
            .heard
            .iter()
            .map(|heard| order.iter().position(|have| have == heard));
        let places: Vec<usize> = places.map(|place| place.expect("it was sent")).collect();
        assert!(
            places.is_sorted_by(|a, b| a < b),
            "in order, and nothing twice: {places:?}"
        );
        for (channel, payload, [from, until]) in &sent {
            let hears = diary.heard.contains(&(channel.clone(), payload.clone()));
            let listened = || diary.listened.iter().filter(|(have, ..)| have == channel);
            let must = listened().any(|(_, [begin, end], _)| begin < from && until < end);
            let may = listened().any(|(_, _, [begin, end])| begin < until && from < end);
            assert!(hears || !must, "{payload} on {channel} is lost");
            assert!(may || !hears, "{payload} on {channel} was not asked for");
        }
    }
}
