//! How clients leave, and what becomes of what they had asked for.

mod common;

use common::{Cluster, Howdah, Wire, msg};

#[test]
fn what_is_asked_before_a_goodbye_is_answered_and_done() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    Wire::app(howdah.target()).query("CREATE TABLE done (n int)");
    let mut wire = Wire::app(howdah.target());
    let slow = msg::query("INSERT INTO done SELECT 1 FROM pg_sleep(0.3)");
    let batch = [
        slow,
        msg::parse("", "SELECT 7"),
        msg::run("", &[]),
        msg::sync(),
        msg::terminate(),
    ];
    wire.send(&batch.concat());
    assert_eq!(wire.answer().tags, ["INSERT 0 1"]);
    assert_eq!(wire.answer().rows, [[Some("7".to_owned())]]);
    assert!(
        matches!(wire.try_answer(), Err(None)),
        "then it is closed without a word"
    );

    // The same from one who does not stay to hear it.
    let mut wire = Wire::app(howdah.target());
    wire.send(
        &[
            msg::query("INSERT INTO done SELECT 2 FROM pg_sleep(0.3)"),
            msg::terminate(),
        ]
        .concat(),
    );
    drop(wire);
    let mut next = Wire::app(howdah.target());
    assert_eq!(
        next.value("SELECT sum(n) FROM done"),
        "3",
        "on the same server, so afterwards"
    );
}
