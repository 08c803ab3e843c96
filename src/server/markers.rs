//! Markers: notifications of howdah's own, at which a client that listens moves from one connection to another.

use bytes::BytesMut;

use crate::wire::backend::{self, Status};
use crate::wire::scan;

use super::literal::{quote_ascii, quote_identifier};
use super::questions::{BEGIN, FREE, FREE_17};
use super::{Connection, Failure};

/// A marker, and the channel of markers.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The payload.
    pub payload: &'a str,
}

impl Mark<'_> {
    fn listen(self) -> Vec<u8> {
        [b"LISTEN ", &*quote_identifier(self.channel.as_bytes()), b";"].concat()
    }

    /// What came before the marker in a row of notifications, and what behind it; markers of others left out.
    fn split(self, mut messages: &[u8]) -> Option<(BytesMut, BytesMut)> {
        let mut before = None;
        let mut here = BytesMut::new();
        while let Ok(Some((header, body))) = scan::message(messages) {
            let (message, rest) = messages.split_at(header.len);
            messages = rest;
            match backend::notification(body) {
                Ok(found) if found.channel != self.channel.as_bytes() => here.extend_from_slice(message),
                Ok(found) if found.payload == self.payload.as_bytes() => {
                    before.get_or_insert_with(|| std::mem::take(&mut here));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Some((before?, here))
    }

    fn parts(self, heard: &[u8]) -> Result<(BytesMut, BytesMut), Failure> {
        let silence = || Failure::Lost("a session did not hear its own notification".to_owned());
        self.split(heard).ok_or_else(silence)
    }
}

impl Connection {
    /// The process id of its backend, once it has logged in: the one that notifications of its own come from.
    pub fn pid(&self) -> Option<i32> {
        self.info.as_ref().map(|info| info.cancel.pid())
    }

    /// Listens to `channels` and sends a marker. Returns the notifications that came behind it; the session listens to
    /// nothing else when this is done. Nothing else may be in flight, and no transaction open.
    pub async fn listen_from(&mut self, mark: Mark<'_>, channels: &[Box<[u8]>]) -> Result<BytesMut, Failure> {
        let mut listen = mark.listen();
        for channel in channels {
            listen.extend_from_slice(&[b"LISTEN ", &*quote_identifier(channel), b";"].concat());
        }
        self.send_marker(mark, &listen).await?;
        let unlisten = [b"UN", &*mark.listen()].concat();
        self.run(unlisten).await?;
        let heard = std::mem::take(&mut self.notifications);
        mark.parts(&heard).map(|(_, behind)| behind)
    }

    /// Sends a marker and listens to nothing any more. Returns the notifications that came before it.
    pub async fn listen_until(&mut self, mark: Mark<'_>) -> Result<BytesMut, Failure> {
        self.send_marker(mark, &mark.listen()).await?;
        let (before, _) = mark.parts(&std::mem::take(&mut self.notifications))?;
        self.run("UNLISTEN *").await?;
        self.notifications = BytesMut::new();
        Ok(before)
    }

    /// In a transaction that no setting of the session can trip. Nothing is lost if the server loses it in a crash, for
    /// then it loses its sessions too.
    async fn send_marker(&mut self, mark: Mark<'_>, listen: &[u8]) -> Result<(), Failure> {
        let free_17 = if self.major_version() >= 17 { FREE_17 } else { b"" };
        let (channel, payload) = (mark.channel.as_bytes(), mark.payload.as_bytes());
        let sql = [
            BEGIN,
            free_17,
            FREE,
            b"SET LOCAL synchronous_commit=off;",
            listen,
            b"NOTIFY ",
            &*quote_identifier(channel),
            b",",
            &*quote_ascii(payload),
            b";COMMIT",
        ]
        .concat();
        let sent = self.run(sql).await;
        if sent.is_err() && self.pipeline.status() != Status::Idle {
            self.run("ROLLBACK").await?;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write;

    #[test]
    fn notifications_are_split_at_the_marker_and_show_none_of_others() {
        let row = |notifications: &[(&str, &str)]| {
            let mut messages = BytesMut::new();
            for (channel, payload) in notifications {
                write::message(&mut messages, b'A', |out| {
                    out.extend_from_slice(&7_i32.to_be_bytes());
                    write::cstr(out, channel.as_bytes());
                    write::cstr(out, payload.as_bytes());
                });
            }
            messages
        };
        let heard = row(&[
            ("m", "2"),
            ("a", "1"),
            ("m", "1"),
            ("m", "3"),
            ("b", "1"),
            ("m", "1"),
        ]);
        let split = |payload| {
            let mark = Mark {
                channel: "m",
                payload,
            };
            mark.split(&heard)
        };
        assert_eq!(split("1"), Some((row(&[("a", "1")]), row(&[("b", "1")]))));
        assert_eq!(split("4"), None);
    }
}
