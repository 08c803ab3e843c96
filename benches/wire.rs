//! The scanner and the queue of requests in flight: what every message pays.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use howdah::wire::backend::Status;
use howdah::wire::pipeline::{Answer, Pipeline, Request};
use howdah::wire::scan;

fn main() {
    divan::main();
}

/// A message of this type and this length of its body.
fn message(tag: u8, body_len: usize) -> Vec<u8> {
    let len = u32::try_from(body_len + 4).expect("short").to_be_bytes();
    [&[tag][..], &len, &vec![0; body_len]].concat()
}

/// What PostgreSQL says to a query with so many rows.
fn answer(rows: usize) -> Vec<u8> {
    let mut bytes = message(b'T', 28);
    for _ in 0..rows {
        bytes.extend(message(b'D', 7));
    }
    bytes.extend(message(b'C', 9));
    bytes.extend(message(b'Z', 1));
    bytes
}

/// Finds every message in a buffer.
#[divan::bench(args = [1, 100])]
fn scanner(bencher: Bencher, rows: usize) {
    let bytes = answer(rows);
    bencher.counter(ItemsCount::new(rows + 3)).bench_local(|| {
        let mut rest = &black_box(&bytes)[..];
        let mut count = 0;
        while let Ok(Some((header, _))) = scan::message(rest) {
            rest = &rest[header.len..];
            count += 1;
        }
        assert_eq!(count, rows + 3);
    });
}

/// Requests go out, their answers come back, nothing is left.
fn round_trip(pipeline: &mut Pipeline<()>, requests: &[Request], answers: &[u8]) {
    for request in requests {
        pipeline.sent(*request, Answer::Forward, None);
    }
    for tag in answers {
        let route = pipeline.received(*tag, Status::Idle, |_, _| ());
        assert!(route.is_ok());
    }
    assert!(pipeline.is_settled());
}

#[divan::bench]
fn pipeline_simple_query(bencher: Bencher) {
    let mut pipeline = Pipeline::default();
    bencher.bench_local(|| round_trip(&mut pipeline, black_box(&[Request::Query]), black_box(b"TDCZ")));
}

#[divan::bench]
fn pipeline_prepared_execution(bencher: Bencher) {
    let mut pipeline = Pipeline::default();
    let requests = [Request::Bind, Request::Describe, Request::Execute, Request::Sync];
    bencher.bench_local(|| round_trip(&mut pipeline, black_box(&requests), black_box(b"2TDCZ")));
}
