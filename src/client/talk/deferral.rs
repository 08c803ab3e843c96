//! `defer_begin`: a bare BEGIN is answered at once, and goes out with the first statement that needs a server.

use bytes::BufMut;

use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::server::{Connection, Note, UnnamedSlot};
use crate::sql::{Bare, bare};
use crate::wire::backend::Status;
use crate::wire::frontend;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::scan::Header;
use crate::wire::write;

use super::{QUERY_LOOK_MAX, Talk};

/// What becomes of a BEGIN while there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Deferral {
    /// It needs one.
    Never,
    /// It can wait.
    Possible,
    /// One has been answered, and no server knows of it.
    Begun,
    /// The server would not begin the transaction that the client believes to be in.
    Failed,
}

impl Talk {
    /// Whether the next BEGIN may wait.
    pub(in crate::client) fn allow_deferral(&mut self, allowed: bool) {
        self.deferral = match self.deferral {
            Deferral::Begun => Deferral::Begun,
            _ if allowed => Deferral::Possible,
            _ => Deferral::Never,
        };
    }

    /// Whether the client is in a transaction that no server knows of.
    pub(in crate::client) fn is_deferring(&self) -> bool {
        self.deferral == Deferral::Begun
    }

    /// What a client is told of its transaction while it has no server.
    pub(super) fn status_without_server(&self) -> Status {
        if self.is_deferring() {
            Status::InTransaction
        } else {
            Status::Idle
        }
    }

    /// Begins or ends a transaction that no server knows of. False if the query does neither.
    pub(super) fn transact_without_server(&mut self, header: Header) -> bool {
        if self.deferral == Deferral::Never || header.len > QUERY_LOOK_MAX {
            return false;
        }
        // On a standby it is BEGIN itself that may fail.
        let is_primary = self.settings.reported.get(b"in_hot_standby") == Some(b"off");
        let text = frontend::query_text(self.body(header)).unwrap_or_default();
        let (after, tag): (_, &[u8]) = match (self.deferral, bare(text)) {
            (Deferral::Possible, Some(Bare::Begin)) if is_primary => (Deferral::Begun, b"BEGIN"),
            (Deferral::Possible, Some(Bare::Start)) if is_primary => (Deferral::Begun, b"START TRANSACTION"),
            (Deferral::Begun, Some(Bare::Commit)) => (Deferral::Possible, b"COMMIT"),
            (Deferral::Begun, Some(Bare::Rollback)) => (Deferral::Possible, b"ROLLBACK"),
            _ => return false,
        };
        self.deferral = after;
        self.discard(header);
        self.unnamed.clear();
        self.answer_query(tag, self.status_without_server().byte());
        true
    }

    /// Sends the BEGIN that has been answered already, if there is one. It goes out in the extended protocol and without a
    /// Sync: if it fails, the server passes over whatever has gone out behind it, which must not run outside the transaction.
    pub(super) fn begin_at_last(&mut self, server: &mut Connection) {
        if !self.is_deferring() {
            return;
        }
        self.deferral = Deferral::Possible;
        let out = &mut server.output;
        write::message(out, b'P', |out| out.put_slice(b"\0BEGIN\0\0\0"));
        write::message(out, b'B', |out| out.put_bytes(0, 8));
        write::message(out, b'E', |out| out.put_bytes(0, 5));
        server.unnamed = UnnamedSlot::Unknown;
        server.pipeline.sent(Request::Parse, Answer::Skip, None);
        server.pipeline.sent(Request::Bind, Answer::Skip, None);
        server
            .pipeline
            .sent(Request::Execute, Answer::Skip, Some(Note::Begin));
    }

    /// Why the client cannot go on, if the transaction that it believes to be in was never begun.
    pub(super) fn never_begun(&self) -> Result<(), Farewell> {
        if self.deferral != Deferral::Failed {
            return Ok(());
        }
        let message = "terminating connection because its transaction could not be begun";
        let refusal = Refusal::new(SqlState::CONNECTION_FAILURE, message);
        Err(Farewell::Limit(
            refusal.detail("BEGIN had been put off (defer_begin)."),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::talk::trail::Trail;
    use crate::client::talk::{Bounds, Pause};
    use crate::net::Stream;

    fn talk() -> Talk {
        let bounds = Bounds {
            transactions: true,
            shared: true,
            prepared: 100,
            prepared_bytes: 10_000,
        };
        let mut talk = Talk::new(Arc::default(), Trail::new(Arc::default(), Arc::default()), bounds);
        Arc::make_mut(&mut talk.settings.reported).set(b"in_hot_standby", b"off");
        talk.allow_deferral(true);
        talk
    }

    #[tokio::test]
    async fn a_begin_that_fails_takes_what_is_behind_it_with_it_and_ends_the_client() {
        let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut server = Connection::new(Stream::from(ours), 2);
        let mut talk = talk();
        write::query(&mut talk.input, b"BEGIN");
        write::query(&mut talk.input, b"INSERT");
        assert!(matches!(talk.requests_without_server(), Pause::NeedServer));
        assert_eq!(talk.output.split()[..], *b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T");
        talk.requests(&mut server);
        // Everything in one write, and no Sync at which the server would begin to listen again.
        let sent = server.output.split();
        let mut tags = Vec::new();
        let mut rest = &sent[..];
        while let Some((header, _)) = crate::wire::scan::message(rest).unwrap() {
            tags.push(header.tag);
            rest = &rest[header.len..];
        }
        assert_eq!(tags, b"PBEQ");
        server
            .input
            .extend_from_slice(b"1\0\0\0\x042\0\0\0\x04E\0\0\0\x0cC57014\0\0");
        let farewell = talk.responses(&mut server).unwrap_err();
        assert!(matches!(farewell, Farewell::Limit(_)), "{farewell}");
        assert_eq!(talk.output[..1], *b"E", "nothing but the error is for the client");
        assert!(server.pipeline.is_skipping(), "the INSERT is passed over");
    }

    #[test]
    fn on_a_standby_or_where_nobody_knows_begin_is_sent() {
        for (setting, waits) in [(&b"off"[..], true), (b"on", false), (b"", false)] {
            let mut talk = talk();
            Arc::make_mut(&mut talk.settings.reported).set(b"in_hot_standby", setting);
            write::query(&mut talk.input, b"BEGIN");
            let pause = talk.requests_without_server();
            assert_eq!(matches!(pause, Pause::NeedMore), waits, "{pause:?}");
        }
    }
}
