//! Where the log goes may be full, gone or stuck: clients must not notice.

mod common;

use std::fs::OpenOptions;
use std::io::{PipeReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use common::bank::{self, Trade};
use common::health::Health;
use common::howdah::Config;
use common::net::wait_until;
use common::{Cluster, Howdah, Wire};

const SERVERS: usize = 3;

fn pool(cluster: &Cluster) -> Config {
    let config = Howdah::before(cluster).set("log_level", "debug");
    config.set("default_pool_size", i64::try_from(SERVERS).expect("few"))
}

/// Many come and go, so that there is something to log.
fn visits(howdah: &Howdah) {
    for n in 0..300 {
        assert_eq!(
            Wire::app(howdah.target()).value(&format!("SELECT {n}")),
            n.to_string()
        );
    }
}

#[test]
fn a_full_disk_for_the_log_harms_no_client() {
    let cluster = bank::cluster().start();
    let howdah = pool(&cluster).start_with(|command| {
        let full = OpenOptions::new().write(true).open("/dev/full");
        command.stderr(full.expect("Linux has one"));
    });
    bank::open(&cluster);
    let health = Health::of(&howdah);
    let trade = Trade::start(howdah.target());
    visits(&howdah);
    trade.finish().audit(&cluster);
    if let Some(health) = health {
        health.check(&howdah, &cluster, SERVERS);
    }
}

/// The reading end of a pipe that a pooler logs into.
fn piped(config: Config) -> (Howdah, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let howdah = config.start_with(move |command: &mut Command| {
        command.stderr(Stdio::from(writer.try_clone().expect("a second handle")));
    });
    (howdah, reader)
}

#[test]
fn a_log_that_nobody_reads_harms_no_client_and_what_was_lost_is_counted() {
    let cluster = Cluster::start();
    let (howdah, mut reader) = piped(pool(&cluster));
    visits(&howdah);
    if !howdah.is_howdah() {
        return;
    }
    let text = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let copy = text.clone();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            copy.lock()
                .expect("no panic inside")
                .push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    });
    wait_until("the log tells what it could not say", || {
        Wire::app(howdah.target()).value("SELECT 1");
        text.lock()
            .expect("no panic inside")
            .contains("lines of the log were lost")
    });
}

#[test]
fn a_log_whose_reader_has_gone_harms_no_client() {
    let cluster = Cluster::start();
    let (howdah, reader) = piped(pool(&cluster));
    drop(reader);
    visits(&howdah);
}
