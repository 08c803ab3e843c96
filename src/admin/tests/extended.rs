//! Transcripts of the extended protocol.

use super::*;

/// Messages of the extended protocol, one after the other.
#[derive(Default)]
struct Script(BytesMut);

impl Script {
    fn parse(mut self, name: &str, text: &str) -> Self {
        write::message(&mut self.0, b'P', |out| {
            write::cstr(out, name.as_bytes());
            write::cstr(out, text.as_bytes());
            out.put_u16(0);
        });
        self
    }

    fn bind(mut self, portal: &str, statement: &str, parameters: u16, format: u16) -> Self {
        write::message(&mut self.0, b'B', |out| {
            write::cstr(out, portal.as_bytes());
            write::cstr(out, statement.as_bytes());
            out.put_u16(0);
            out.put_u16(parameters);
            for _ in 0..parameters {
                out.put_i32(-1);
            }
            out.put_u16(1);
            out.put_u16(format);
        });
        self
    }

    fn about(mut self, tag: u8, kind: u8, name: &str) -> Self {
        write::message(&mut self.0, tag, |out| {
            out.put_u8(kind);
            write::cstr(out, name.as_bytes());
        });
        self
    }

    fn execute(mut self, portal: &str, limit: i32) -> Self {
        write::message(&mut self.0, b'E', |out| {
            write::cstr(out, portal.as_bytes());
            out.put_i32(limit);
        });
        self
    }

    async fn sync(mut self, guest: &mut Guest) -> Vec<Message> {
        write::empty(&mut self.0, b'S');
        guest.send(&self.0).await;
        guest.listen().await
    }
}

#[tokio::test]
async fn the_extended_protocol_is_spoken() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let script = || Script::default();
    let answer = script()
        .parse("s", "SHOW STATE")
        .about(b'D', b'S', "s")
        .bind("", "s", 0, 0)
        .about(b'D', b'P', "")
        .execute("", 0)
        .about(b'C', b'S', "s")
        .sync(&mut guest)
        .await;
    assert_eq!(tags(&answer), "1tT2TDDDC3Z");
    assert_eq!(rows(&answer)[0], ["active", "yes"]);
    let answer = script().bind("", "s", 0, 0).sync(&mut guest).await;
    assert_eq!((tags(&answer), code(&answer)), ("EZ".into(), "26000".into()));
    let answer = script()
        .parse("", "SELECT 1")
        .bind("", "", 0, 1)
        .about(b'D', b'P', "")
        .execute("", 0)
        .sync(&mut guest)
        .await;
    assert_eq!(tags(&answer), "12TDCZ");
    assert_eq!(answer[3].1, [0, 1, 0, 0, 0, 4, 0, 0, 0, 1]);
    let answer = script()
        .parse("", "")
        .bind("", "", 0, 0)
        .about(b'D', b'P', "")
        .execute("", 0);
    assert_eq!(tags(&answer.sync(&mut guest).await), "12nIZ");
    let answer = script()
        .parse("", "SET client_encoding TO utf8")
        .bind("", "", 0, 0)
        .execute("", 0);
    assert_eq!(tags(&answer.sync(&mut guest).await), "12CZ");
}

#[tokio::test]
async fn a_portal_gives_as_many_rows_as_are_asked_for() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let script = Script::default().parse("", "SHOW STATE").bind("p", "", 0, 0);
    let answer = script
        .execute("p", 2)
        .execute("p", 2)
        .execute("p", 0)
        .sync(&mut guest)
        .await;
    assert_eq!(tags(&answer), "12DDsDCCZ");
    let answer = Script::default().execute("p", 0).sync(&mut guest).await;
    assert_eq!(code(&answer), "34000", "portals end with the transaction");
    guest.query("BEGIN").await;
    let script = Script::default().parse("", "SHOW STATE").bind("p", "", 0, 0);
    assert_eq!(tags(&script.execute("p", 1).sync(&mut guest).await), "12DsZ");
    assert_eq!(
        tags(&Script::default().execute("p", 0).sync(&mut guest).await),
        "DDCZ"
    );
}

#[tokio::test]
async fn behind_an_error_everything_is_dropped_until_sync() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let mut script = Script::default()
        .parse("", "RELOAD")
        .bind("", "", 0, 0)
        .execute("", 0);
    script = script.parse("late", "SHOW STATE");
    write::query(&mut script.0, b"SHOW STATE");
    let answer = script.sync(&mut guest).await;
    assert_eq!((tags(&answer), code(&answer)), ("12EZ".into(), "42501".into()));
    let answer = Script::default().about(b'D', b'S', "late").sync(&mut guest).await;
    assert_eq!(code(&answer), "26000");
    for (script, wanted) in [
        (Script::default().parse("", "SHOW STATE; SHOW STATE"), "42601"),
        (
            Script::default().parse("", "SHOW STATE").bind("", "", 1, 0),
            "0A000",
        ),
        (
            Script::default().parse("", "SHOW STATE").bind("", "", 0, 2),
            "22023",
        ),
        (
            Script::default()
                .parse("a", "SHOW STATE")
                .parse("a", "SHOW STATE"),
            "42P05",
        ),
        (Script::default().execute("nothing", 0), "34000"),
        (Script::default().parse("", "nonsense"), "42601"),
    ] {
        assert_eq!(code(&script.sync(&mut guest).await), wanted);
    }
    assert_eq!(tags(&guest.query("SHOW VERSION").await), "TDCZ");
}
