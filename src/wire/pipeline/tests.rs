//! The rules of the protocol, one by one.

use super::*;
use Request::{Bind, Close, CopyEnd, Describe, Execute, Function, Parse, Query, Sync};

fn with(requests: &[Request]) -> Pipeline<usize> {
    let mut pipeline = Pipeline::default();
    for (note, request) in requests.iter().enumerate() {
        pipeline.sent(*request, Answer::Forward, Some(note));
    }
    pipeline
}

/// Feeds tags; a status letter after `Z`. Returns what was settled.
fn feed(pipeline: &mut Pipeline<usize>, tags: &str) -> Vec<(Request, Outcome)> {
    let mut settled = Vec::new();
    let mut tags = tags.bytes();
    while let Some(tag) = tags.next() {
        let status = if tag == b'Z' {
            Status::parse(&[tags.next().unwrap()]).unwrap()
        } else {
            Status::Idle
        };
        let route = pipeline.received(tag, status, |entry, outcome| {
            settled.push((entry.request, outcome));
        });
        assert_eq!(route, Ok(Route::Forward), "{}", tag as char);
    }
    settled
}

#[test]
fn a_simple_query_ends_with_ready_for_query_and_not_before() {
    let mut pipeline = with(&[Query]);
    feed(&mut pipeline, "TDDCTDC");
    assert!(!pipeline.is_quiet());
    assert_eq!(feed(&mut pipeline, "ZI"), [(Query, Outcome::Done)]);
    assert!(pipeline.is_settled());
}

#[test]
fn a_transaction_keeps_the_server() {
    let mut pipeline = with(&[Query]);
    feed(&mut pipeline, "CZT");
    assert!(pipeline.is_quiet() && !pipeline.is_settled());
    pipeline.sent(Query, Answer::Forward, None);
    feed(&mut pipeline, "EZE");
    assert!(!pipeline.is_settled());
}

#[test]
fn several_syncs_in_flight_are_counted() {
    let mut pipeline = with(&[Parse, Bind, Execute, Sync, Bind, Execute, Sync]);
    feed(&mut pipeline, "12CZI");
    assert!(
        !pipeline.is_settled(),
        "idle, but the second segment is on its way"
    );
    feed(&mut pipeline, "2DCZI");
    assert!(pipeline.is_settled());
}

#[test]
fn an_open_segment_keeps_the_server_even_when_all_is_answered() {
    let mut pipeline = with(&[Parse]);
    feed(&mut pipeline, "1");
    assert!(!pipeline.in_flight() && !pipeline.is_quiet());
    pipeline.sent(Sync, Answer::Forward, None);
    feed(&mut pipeline, "ZI");
    assert!(pipeline.is_settled());
}

#[test]
fn an_error_takes_everything_up_to_sync() {
    let mut pipeline = with(&[Parse, Bind, Execute, Sync, Parse, Sync]);
    let settled = feed(&mut pipeline, "1E");
    assert_eq!(
        settled,
        [
            (Parse, Outcome::Done),
            (Execute, Outcome::Skipped),
            (Bind, Outcome::Failed)
        ]
    );
    assert!(!pipeline.is_skipping(), "the Sync is on its way");
    assert_eq!(feed(&mut pipeline, "ZI1ZI").len(), 3);
    assert!(pipeline.is_settled());
}

#[test]
fn what_follows_an_error_is_passed_over_until_sync() {
    let mut pipeline = with(&[Bind]);
    feed(&mut pipeline, "E");
    assert!(pipeline.is_skipping());
    assert_eq!(pipeline.sent(Execute, Answer::Forward, Some(7)), Some(7));
    assert_eq!(pipeline.sent(Query, Answer::Forward, Some(8)), Some(8));
    assert_eq!(pipeline.sent(Sync, Answer::Forward, Some(9)), None);
    feed(&mut pipeline, "ZI");
    assert!(pipeline.is_settled());
}

#[test]
fn an_error_at_sync_is_followed_by_its_ready_for_query() {
    let mut pipeline = with(&[Execute, Sync]);
    feed(&mut pipeline, "CEZI");
    assert!(pipeline.is_settled());
}

#[test]
fn syncs_within_copy_data_have_no_answer() {
    let mut pipeline = with(&[Bind, Execute, Sync]);
    feed(&mut pipeline, "2G");
    assert!(pipeline.is_copying_in() && !pipeline.unit_in_flight());
    pipeline.sent(Sync, Answer::Forward, None);
    pipeline.sent(CopyEnd, Answer::Forward, None);
    assert!(!pipeline.is_copying_in());
    feed(&mut pipeline, "C");
    assert!(!pipeline.is_quiet(), "the Sync that ends it has not been sent");
    pipeline.sent(Sync, Answer::Forward, None);
    feed(&mut pipeline, "ZI");
    assert!(pipeline.is_settled());
}

#[test]
fn a_copy_sent_all_at_once_keeps_its_last_sync() {
    let mut pipeline = with(&[Bind, Execute, CopyEnd, Sync]);
    feed(&mut pipeline, "2G");
    assert!(!pipeline.is_copying_in() && pipeline.unit_in_flight());
    feed(&mut pipeline, "CZI");
    assert!(pipeline.is_settled());
}

#[test]
fn a_copy_in_a_simple_query_ends_or_fails_with_it() {
    let mut pipeline = with(&[Query]);
    feed(&mut pipeline, "G");
    assert!(pipeline.is_copying_in());
    feed(&mut pipeline, "E");
    assert!(!pipeline.is_copying_in());
    pipeline.sent(CopyEnd, Answer::Forward, None);
    feed(&mut pipeline, "ZI");
    assert!(pipeline.is_settled(), "a late CopyDone is nothing");
}

#[test]
fn a_query_in_the_middle_of_copy_data_has_no_answer_of_its_own() {
    let mut pipeline = with(&[Query]);
    feed(&mut pipeline, "G");
    assert_eq!(pipeline.sent(Query, Answer::Forward, Some(5)), Some(5));
    feed(&mut pipeline, "EZI");
    assert!(pipeline.is_settled());
}

#[test]
fn answers_to_our_own_requests_are_kept_from_the_client() {
    let mut pipeline: Pipeline<usize> = Pipeline::default();
    pipeline.sent(Parse, Answer::Skip, None);
    pipeline.sent(Bind, Answer::Forward, None);
    pipeline.sent(Sync, Answer::Forward, None);
    let mut nothing = |_, _| ();
    assert_eq!(
        pipeline.received(b'N', Status::Idle, &mut nothing),
        Ok(Route::Skip)
    );
    assert_eq!(
        pipeline.received(b'A', Status::Idle, &mut nothing),
        Ok(Route::Forward)
    );
    assert_eq!(
        pipeline.received(b'1', Status::Idle, &mut nothing),
        Ok(Route::Skip)
    );
    assert_eq!(
        pipeline.received(b'2', Status::Idle, &mut nothing),
        Ok(Route::Forward)
    );
}

#[test]
fn a_fake_waits_for_its_turn_and_is_lost_with_its_segment() {
    let mut pipeline: Pipeline<usize> = Pipeline::default();
    pipeline.sent(Bind, Answer::Forward, None);
    pipeline.sent(Close, Answer::Fake, Some(1));
    pipeline.sent(Sync, Answer::Forward, None);
    assert!(pipeline.take_fake().is_none());
    feed(&mut pipeline, "2");
    assert_eq!(pipeline.take_fake().and_then(|entry| entry.note), Some(1));
    feed(&mut pipeline, "ZI");

    pipeline.sent(Bind, Answer::Forward, None);
    pipeline.sent(Close, Answer::Fake, Some(2));
    let settled = feed(&mut pipeline, "E");
    assert_eq!(settled, [(Close, Outcome::Skipped), (Bind, Outcome::Failed)]);
}

#[test]
fn answers_without_a_question_are_found() {
    let mut pipeline: Pipeline<usize> = Pipeline::default();
    let mut nothing = |_, _| ();
    assert_eq!(
        pipeline.received(b'Z', Status::Idle, &mut nothing),
        Err(Unexpected(b'Z'))
    );
    assert_eq!(
        pipeline.received(b'E', Status::Idle, &mut nothing),
        Ok(Route::Forward)
    );
    pipeline.sent(Describe, Answer::Forward, None);
    assert_eq!(
        pipeline.received(b'D', Status::Idle, &mut nothing),
        Err(Unexpected(b'D'))
    );
    assert_eq!(
        pipeline.received(b'q', Status::Idle, &mut nothing),
        Err(Unexpected(b'q'))
    );
}

#[test]
fn a_function_call_is_a_unit() {
    let mut pipeline = with(&[Function]);
    feed(&mut pipeline, "VZI");
    assert!(pipeline.is_settled());
}

#[test]
fn a_copy_that_fails_after_swallowing_requests_leaves_doubt() {
    // The Sync may have been read as copy data, or answered after the COPY had failed.
    let mut pipeline = with(&[Bind, Execute, Sync]);
    feed(&mut pipeline, "2G");
    pipeline.sent(CopyEnd, Answer::Forward, None);
    pipeline.sent(Sync, Answer::Forward, None);
    assert!(!pipeline.is_doubtful());
    feed(&mut pipeline, "EZI");
    assert!(pipeline.is_settled() && pipeline.is_doubtful());

    let mut pipeline = with(&[Query]);
    feed(&mut pipeline, "G");
    pipeline.sent(Query, Answer::Forward, None);
    feed(&mut pipeline, "EZI");
    assert!(pipeline.is_doubtful());
}

#[test]
fn a_copy_that_ends_well_leaves_no_doubt() {
    let mut pipeline = with(&[Bind, Execute, Sync, CopyEnd, Sync, Bind]);
    feed(&mut pipeline, "2GCZIE");
    assert!(!pipeline.is_doubtful());
    let mut pipeline = with(&[Query]);
    feed(&mut pipeline, "G");
    pipeline.sent(CopyEnd, Answer::Forward, None);
    feed(&mut pipeline, "EZI");
    assert!(!pipeline.is_doubtful(), "nothing was sent but copy data");
}

#[test]
fn requests_that_a_copy_swallows_are_given_back() {
    let mut pipeline = with(&[Query, Query]);
    assert_eq!(feed(&mut pipeline, "G"), [(Query, Outcome::Skipped)]);
    assert_eq!(feed(&mut pipeline, "EZI"), [(Query, Outcome::Done)]);
    assert!(!pipeline.unit_in_flight());
}

#[test]
fn an_error_between_the_requests_of_a_segment_makes_the_server_skip() {
    let mut pipeline = with(&[Parse]);
    feed(&mut pipeline, "1E");
    assert!(pipeline.is_skipping() && !pipeline.is_quiet());
    pipeline.sent(Sync, Answer::Forward, None);
    feed(&mut pipeline, "ZI");
    assert!(pipeline.is_settled());
}

#[test]
fn the_server_is_asked_once_for_answers_that_it_may_hold_back() {
    let mut pipeline = with(&[Parse]);
    assert!(pipeline.take_flush() && !pipeline.take_flush());
    pipeline.sent(Bind, Answer::Forward, None);
    assert!(pipeline.take_flush());
    pipeline.sent(Sync, Answer::Forward, None);
    assert!(!pipeline.take_flush(), "ReadyForQuery is coming");

    let mut copying = with(&[Execute]);
    copying.take_flush();
    feed(&mut copying, "G");
    copying.sent(CopyEnd, Answer::Forward, None);
    assert!(
        copying.take_flush(),
        "what follows the copy data may be held back"
    );
}

#[test]
fn only_commands_begin_to_copy() {
    for request in [Parse, Bind, Describe, Close, Sync, Function] {
        let mut pipeline = with(&[request]);
        let answer = pipeline.received(b'G', Status::Idle, |_, _| ());
        assert_eq!(answer, Err(Unexpected(b'G')), "{request:?}");
    }
}

#[test]
fn what_notes_hold_is_counted_until_they_come_back() {
    let mut pipeline: Pipeline<usize> = Pipeline::default();
    for _ in 0..NOTES_MAX / 999 {
        pipeline.sent(Parse, Answer::Forward, Some(999));
    }
    assert!(!pipeline.is_full());
    pipeline.sent(Parse, Answer::Forward, Some(999));
    assert!(pipeline.is_full());
    feed(&mut pipeline, "1");
    assert!(!pipeline.is_full());
    pipeline.sent(Parse, Answer::Fake, Some(999));
    assert!(pipeline.is_full());
    feed(&mut pipeline, "E");
    assert!(!pipeline.is_full() && !pipeline.in_flight() && pipeline.notes == 0);
}
