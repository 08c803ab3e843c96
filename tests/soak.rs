//! Two thousand idle clients and fifty busy ones on five servers, with others coming and going in every manner, errors,
//! tables that change and a configuration that is reloaded: nobody is overtaken, nothing fails that should not,
//! nothing grows.
//!
//! `HOWDAH_SOAK_SECONDS` makes it longer, `HOWDAH_SOAK_PAUSE` (in milliseconds) lets the busy clients think between two
//! transactions, so that it takes no whole machine; what it measured is printed.

mod common;

use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::console::{get, metrics_port};
use common::health::{Health, descriptors};
use common::net::{free_port, wait_until};
use common::{Cluster, Howdah, Target, Wire, msg};
use rustix::process::{Resource, getrlimit, setrlimit};

const IDLE: usize = 2000;
const BUSY: u64 = 50;
const SERVERS: usize = 5;
/// Load before the first measurement: buffers and caches have their size then.
const WARM_UP: Duration = Duration::from_secs(15);
/// What the process may grow by under the same load, in kB: an allocator's arenas are never quite still.
const GROWTH_MAX: u64 = 2 * 1024;
/// What one client may have to wait for in the worst case, its turn among fifty, beside the longest time that the
/// machine did not let this program run.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A number from the environment.
fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How long the load lasts after the warm-up.
fn duration() -> Duration {
    Duration::from_secs(number_of("HOWDAH_SOAK_SECONDS").unwrap_or(45))
}

/// How long a busy client thinks between two transactions.
fn pause() -> Duration {
    Duration::from_millis(number_of("HOWDAH_SOAK_PAUSE").unwrap_or(0))
}

fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may raise its soft limit");
    let have = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(
        have > 2 * IDLE as u64,
        "2,000 clients need more than {have} file descriptors"
    );
}

/// A number of /proc/PID/status, in kB or as it is.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the pooler is running");
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .expect("Linux says so");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// Memory that the process has asked for and touched, in kB.
fn memory(pid: u32) -> u64 {
    status(pid, "RssAnon")
}

/// Tasks of howdah's that have not ended; one of them answers this question.
fn tasks(howdah: &Howdah) -> u64 {
    let page = get(metrics_port(howdah), "/metrics").body;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("howdah_process_tasks "));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number of tasks in {page}"))
}

/// What the busy clients have seen.
#[derive(Default)]
struct Figures {
    transactions: AtomicU64,
    visits: AtomicU64,
    vanished: AtomicU64,
    errors: AtomicU64,
    changes: AtomicU64,
    reloads: AtomicU64,
    longest_us: AtomicU64,
    /// The longest time that the machine was busy with something else.
    standstill_us: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
}

/// One busy client: transactions of every kind, each answer checked.
fn work(target: Target, client: u64, figures: &Figures, stop: &AtomicBool) {
    let _alarm = Alarm(stop);
    let mut wire = Wire::app(target);
    let name = format!("s{client}");
    let prepared = format!("SELECT $1::int8 + {client}");
    assert_eq!(wire.batch(&[msg::parse(&name, &prepared)]), "1Z");
    let (mut round, pause) = (0, pause());
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let number = round.to_string();
        match round % 4 {
            0 => assert_eq!(
                wire.value(&format!("SELECT {client} * 7")),
                (client * 7).to_string()
            ),
            1 => {
                let answer = wire.extended(&[msg::run(&name, &[Some(&number)])]);
                assert_eq!(answer.value(), (round + client).to_string());
            }
            2 => {
                assert_eq!(wire.query("BEGIN").status, 'T');
                let sql = format!("UPDATE counters SET n = n + 1 WHERE client = {client}");
                assert_eq!(wire.query(&sql).tags, ["UPDATE 1"]);
                assert_eq!(wire.query("COMMIT").status, 'I');
            }
            _ => {
                let answer = wire.query("SELECT repeat('x', 50000)");
                assert_eq!(answer.value().len(), 50_000);
            }
        }
        figures.longest_us.fetch_max(micros(start), Ordering::Relaxed);
        figures.transactions.fetch_add(1, Ordering::Relaxed);
        round += 1;
        wire.transcript.clear();
        thread::sleep(pause);
    }
    figures.least.fetch_min(round, Ordering::Relaxed);
    figures.most.fetch_max(round, Ordering::Relaxed);
    assert_eq!(wire.query("SELECT 'in the end'").value(), "in the end");
    wire.terminate();
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).expect("no soak lasts that long")
}

/// Sleeps, and sees how much longer that lasts than it should.
fn watch_machine(figures: &Figures, stop: &AtomicBool) {
    let _alarm = Alarm(stop);
    const NAP: Duration = Duration::from_millis(20);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        thread::sleep(NAP);
        figures
            .standstill_us
            .fetch_max(micros(start + NAP), Ordering::Relaxed);
    }
}

/// Clients that come and go: with a word, without, in the middle of a query, a transaction, a message, a login.
fn visit(target: Target, figures: &Figures, stop: &AtomicBool) {
    let _alarm = Alarm(stop);
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        if turn % 8 == 0 {
            TcpStream::connect(target.addr()).expect("it listens");
            continue;
        }
        let mut wire = Wire::app(target);
        figures.visits.fetch_add(1, Ordering::Relaxed);
        match turn % 8 {
            1 => assert_eq!(wire.value("SELECT 'a short visit'"), "a short visit"),
            2 => {}
            3 => {
                assert_eq!(wire.query("BEGIN; SELECT 1").status, 'T');
            }
            4 => wire.send(&msg::query("SELECT pg_sleep(60)")),
            5 => wire.send(&msg::query(
                "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
            )),
            6 => wire.send(&msg::query("COPY copied FROM STDIN")),
            _ => wire.send(&[msg::query("SELECT 1"), vec![b'Q', 0, 0, 1, 0, b'x']].concat()),
        }
        if turn % 8 < 3 {
            wire.terminate();
        } else {
            figures.vanished.fetch_add(1, Ordering::Relaxed);
            wire.vanish();
        }
        thread::sleep(Duration::from_millis(40));
    }
}

/// What goes wrong in a session, with the SQLSTATE that it brings.
const ERRORS: [(&str, &str); 6] = [
    ("SELEC 1", "42601"),
    ("SELECT 1/0", "22012"),
    ("INSERT INTO counters VALUES ('x', 1)", "22P02"),
    ("SELECT 1/(n - 3) FROM generate_series(1, 9) n", "22012"),
    ("COPY copied FROM '/nowhere'", "42501"),
    ("SELECT * FROM nowhere", "42P01"),
];

/// A client that makes every error there is, again and again, and is served none the less.
fn err(target: Target, figures: &Figures, stop: &AtomicBool) {
    let _alarm = Alarm(stop);
    let mut wire = Wire::app(target);
    for (sql, code) in ERRORS.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return wire.terminate();
        }
        let answer = wire.query(sql);
        assert_eq!((answer.code(), answer.status), (*code, 'I'), "{sql}");
        assert_eq!(wire.query("BEGIN").status, 'T');
        assert_eq!(wire.query(sql).status, 'E', "{sql}");
        assert_eq!(wire.extended(&[msg::extended("SELECT 1", &[])]).code(), "25P02");
        assert_eq!(wire.query("ROLLBACK").status, 'I');
        assert_eq!(wire.extended(&[msg::extended(sql, &[])]).code(), *code, "{sql}");
        figures.errors.fetch_add(4, Ordering::Relaxed);
        wire.transcript.clear();
        thread::sleep(Duration::from_millis(20));
    }
}

/// A client whose tables change under its prepared statements, and which keeps and gives back its server.
fn change(target: Target, figures: &Figures, stop: &AtomicBool) {
    let _alarm = Alarm(stop);
    let mut wire = Wire::app(target);
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return wire.terminate();
        }
        for sql in [
            format!("CREATE TABLE passing_{n} (a int)"),
            format!("ALTER TABLE passing_{n} ADD b text"),
            format!("SET app.n = '{n}'"),
            "CREATE TEMP TABLE mine AS SELECT 1 AS a".to_owned(),
        ] {
            assert_eq!(wire.query(&sql).code(), "", "{sql}");
        }
        let name = format!("p{}", n % 50);
        let select = format!("SELECT current_setting('app.n') FROM mine LEFT JOIN passing_{n} USING (a)");
        let answer = wire.extended(&[
            msg::close_statement(&name),
            msg::parse(&name, &select),
            msg::run(&name, &[]),
        ]);
        assert_eq!(answer.value(), n.to_string());
        assert_eq!(wire.query(&format!("DROP TABLE mine, passing_{n}")).code(), "");
        figures.changes.fetch_add(1, Ordering::Relaxed);
        wire.transcript.clear();
        thread::sleep(Duration::from_millis(100));
    }
}

/// The configuration changes and changes back.
fn reload(howdah: &mut Howdah, figures: &Figures, stop: &AtomicBool) {
    let _alarm = Alarm(stop);
    for patience in ["60s", "2min"].iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        howdah.reload(|config| config.set("query_wait_timeout", *patience));
        figures.reloads.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(500));
    }
}

/// Looks every now and then how much memory the process has, beside files' pages (its program, of which more and more is
/// touched in time); returns the first and the largest after the warm-up.
fn watch_memory(pid: u32, cluster: &Cluster, stop: &AtomicBool) -> (u64, u64) {
    thread::sleep(WARM_UP);
    let mut first = 0;
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        first = first.max(memory(pid));
        thread::sleep(Duration::from_millis(100));
    }
    let mut most = first;
    let mut samples = Vec::new();
    let end = Instant::now() + duration();
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        let now = memory(pid);
        most = most.max(now);
        samples.push(now);
        // One that was given up may need a moment to notice while another is opened.
        wait_until("the pool has its size", || cluster.backends("true") <= SERVERS);
        thread::sleep(Duration::from_secs(1));
    }
    stop.store(true, Ordering::Relaxed);
    let tenth = (samples.len() / 10).max(1);
    let highest: Vec<_> = samples
        .chunks(tenth)
        .map(|part| part.iter().max().copied())
        .collect();
    eprintln!(
        "the most in each tenth of the time, in kB: {:?}",
        highest.iter().flatten().collect::<Vec<_>>()
    );
    (first, most)
}

fn log_in_all(target: Target, count: usize) -> Vec<Wire> {
    let start = Instant::now();
    let mut idle: Vec<Wire> = (0..count).map(|_| Wire::app(target)).collect();
    for wire in idle.iter_mut().step_by(10) {
        assert_eq!(wire.value("SELECT 1"), "1");
    }
    eprintln!("{count} clients logged in after {:.1?}", start.elapsed());
    idle
}

fn setup(cluster: &Cluster) -> Howdah {
    cluster.sql(
        "CREATE TABLE counters AS SELECT client, 0 AS n FROM generate_series(0, 100) client;
         CREATE TABLE copied (a text); ALTER TABLE counters OWNER TO app; ALTER TABLE copied OWNER TO app",
    );
    Howdah::before(cluster)
        .set("default_pool_size", i64::try_from(SERVERS).expect("few"))
        .set("max_client_conn", 3000)
        .set("log_connections", false)
        .set("log_disconnections", false)
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .start()
}

/// What a howdah takes.
#[derive(Debug)]
struct Footprint {
    /// In kB.
    memory: u64,
    descriptors: usize,
    tasks: u64,
    threads: u64,
}

impl Footprint {
    fn of(howdah: &Howdah, pid: u32) -> Self {
        Self {
            memory: memory(pid),
            descriptors: descriptors(pid),
            tasks: tasks(howdah),
            threads: status(pid, "Threads"),
        }
    }
}

/// Ends everything where one has found something wrong.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn two_thousand_idle_and_fifty_busy_clients_on_five_servers() {
    let cluster = Cluster::start();
    raise_descriptor_limit();
    let mut howdah = setup(&cluster);
    let Some(pid) = howdah.pid().filter(|_| howdah.is_howdah()) else {
        return;
    };
    let target = howdah.target();
    let health = Health::of(&howdah).expect("it runs");
    let empty = Footprint::of(&howdah, pid);
    let mut idle = log_in_all(target, IDLE);
    eprintln!(
        "{} kB without clients, {} kB with {IDLE} idle ones",
        empty.memory,
        memory(pid)
    );
    let figures = Figures {
        least: u64::MAX.into(),
        ..Figures::default()
    };
    let stop = AtomicBool::new(false);
    let (first, most) = thread::scope(|scope| {
        for client in 0..BUSY {
            let (figures, stop) = (&figures, &stop);
            scope.spawn(move || work(target, client, figures, stop));
        }
        scope.spawn(|| watch_machine(&figures, &stop));
        scope.spawn(|| visit(target, &figures, &stop));
        scope.spawn(|| err(target, &figures, &stop));
        scope.spawn(|| change(target, &figures, &stop));
        scope.spawn(|| reload(&mut howdah, &figures, &stop));
        let watch = scope.spawn(|| watch_memory(pid, &cluster, &stop));
        let watched = watch.join();
        stop.store(true, Ordering::Relaxed);
        watched.expect("nothing out of order was seen")
    });
    report(&figures, first, most);
    assert!(most <= first + GROWTH_MAX, "from {first} kB to {most} kB");
    fair(&figures);
    for wire in &mut idle {
        assert_eq!(wire.value("SELECT 'still here'"), "still here");
    }
    drop(idle);
    health.check(&howdah, &cluster, SERVERS);
    wait_until("all tasks but those of the beginning have ended", || {
        tasks(&howdah) <= empty.tasks
    });
    let now = Footprint::of(&howdah, pid);
    eprintln!("in the end: {now:?}\nwith nobody at the start: {empty:?}");
    assert!(now.memory <= first + GROWTH_MAX, "nobody is there any more");
    assert!(now.descriptors <= empty.descriptors + SERVERS);
    assert_eq!(now.threads, empty.threads);
    let log = howdah.log();
    assert!(!log.contains("ERROR"), "an error in the log");
}

fn report(figures: &Figures, first: u64, most: u64) {
    let number = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    eprintln!(
        "{} transactions ({} to {} for each client, none waited longer than {} ms, while the machine stood still for {} ms), {} visits of which {} vanished, \
         {} errors, {} changes of tables, {} reloads; {first} kB after the warm-up, {most} kB at most in the {:?} after it",
        number(&figures.transactions),
        number(&figures.least),
        number(&figures.most),
        number(&figures.longest_us) / 1000,
        number(&figures.standstill_us) / 1000,
        number(&figures.visits),
        number(&figures.vanished),
        number(&figures.errors),
        number(&figures.changes),
        number(&figures.reloads),
        duration(),
    );
}

/// All were served alike.
fn fair(figures: &Figures) {
    let (least, most) = (
        figures.least.load(Ordering::Relaxed),
        figures.most.load(Ordering::Relaxed),
    );
    assert!(
        least * 2 > most,
        "one client had {least} turns while another had {most}"
    );
    let time = |figure: &AtomicU64| Duration::from_micros(figure.load(Ordering::Relaxed));
    let (longest, standstill) = (time(&figures.longest_us), time(&figures.standstill_us));
    assert!(
        longest < WAIT_MAX + standstill,
        "a client waited for {longest:?}, the machine stood still for {standstill:?}"
    );
}
