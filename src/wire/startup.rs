//! The packets before login: they have a length but no type.

use bytes::{BufMut, BytesMut};

use super::read::Reader;
use super::{WireError, write};

/// The longest startup packet, in bytes; PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const STARTUP_LEN_MAX: usize = 10_000;
/// The newest protocol that howdah speaks, as major << 16 | minor.
pub const PROTOCOL_3_2: u32 = 3 << 16 | 2;
/// The oldest one.
pub const PROTOCOL_3_0: u32 = 3 << 16;

const CANCEL: u32 = 0x04d2_162e;
const SSL: u32 = 0x04d2_162f;
const GSSENC: u32 = 0x04d2_1630;

/// What a new connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initial {
    /// `SSLRequest`.
    Ssl,
    /// `GSSENCRequest`.
    Gssenc,
    /// `CancelRequest`: process id and secret of the session to cancel in.
    Cancel {
        /// The process id that the session was told.
        pid: i32,
        /// The secret that the session was told, 4 to 256 bytes.
        secret: Vec<u8>,
    },
    /// `StartupMessage`.
    Startup(Startup),
}

/// A `StartupMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The protocol that the client asks for; its major version is 3.
    pub protocol: u32,
    /// Parameters in the order they came, `_pq_.` options among them.
    pub parameters: Vec<(String, Vec<u8>)>,
}

/// Why a first packet cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// It is malformed.
    #[error("invalid startup packet: {0}")]
    Malformed(#[from] WireError),
    /// It asks for a protocol of another major version.
    #[error("unsupported frontend protocol {}.{}: server supports 3.0 to 3.2", .0 >> 16, .0 & 0xffff)]
    Protocol(u32),
}

/// Length in bytes of the first packet, its length word included, once that word is there.
pub fn packet_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let &[a, b, c, d, ..] = bytes else { return Ok(None) };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if (8..=STARTUP_LEN_MAX).contains(&len) {
        Ok(Some(len))
    } else {
        Err(WireError::Length)
    }
}

impl Initial {
    /// From a whole packet without its length word.
    pub fn parse(packet: &[u8]) -> Result<Self, StartupError> {
        let mut reader = Reader::new(packet);
        match reader.u32()? {
            SSL => reader.end().map(|()| Self::Ssl).map_err(Into::into),
            GSSENC => reader.end().map(|()| Self::Gssenc).map_err(Into::into),
            CANCEL => {
                let pid = reader.i32()?;
                let secret = reader.rest().to_vec();
                if (4..=256).contains(&secret.len()) {
                    Ok(Self::Cancel { pid, secret })
                } else {
                    Err(WireError::Format.into())
                }
            }
            protocol if protocol >> 16 == 3 => {
                let parameters = parameters(reader)?;
                Ok(Self::Startup(Startup { protocol, parameters }))
            }
            protocol => Err(StartupError::Protocol(protocol)),
        }
    }
}

fn parameters(mut reader: Reader<'_>) -> Result<Vec<(String, Vec<u8>)>, WireError> {
    let mut found = Vec::new();
    loop {
        let name = reader.cstr()?;
        if name.is_empty() {
            reader.end()?;
            return Ok(found);
        }
        let name = std::str::from_utf8(name)
            .map_err(|_| WireError::Format)?
            .to_owned();
        found.push((name, reader.cstr()?.to_vec()));
    }
}

impl Startup {
    /// The value of a parameter; the last one wins, as in PostgreSQL.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.parameters
            .iter()
            .rev()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The protocol that this session will speak: what was asked for, or the newest we have.
    pub fn negotiated(&self) -> u32 {
        // 3.1 was never a version of its own.
        if self.protocol >= PROTOCOL_3_2 {
            PROTOCOL_3_2
        } else {
            PROTOCOL_3_0
        }
    }

    /// Names of the protocol options that we do not know: all that begin with `_pq_.`.
    pub fn unknown_options(&self) -> Vec<&str> {
        self.parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| name.starts_with("_pq_."))
            .collect()
    }

    /// Appends a `NegotiateProtocolVersion` if the client asked for more than there is.
    pub fn negotiate(&self, out: &mut BytesMut) {
        let unknown = self.unknown_options();
        let spoken = self.negotiated();
        if unknown.is_empty() && (self.protocol == spoken || self.protocol < PROTOCOL_3_2) {
            return;
        }
        write::message(out, b'v', |out| {
            out.put_u32(spoken);
            out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
            for name in unknown {
                write::cstr(out, name.as_bytes());
            }
        });
    }
}

/// Appends a `StartupMessage`.
pub fn write_startup<'a>(
    out: &mut BytesMut,
    protocol: u32,
    parameters: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) {
    write::sized(out, |out| {
        out.put_u32(protocol);
        for (name, value) in parameters {
            write::cstr(out, name.as_bytes());
            write::cstr(out, value);
        }
        out.put_u8(0);
    });
}

/// Appends an `SSLRequest`.
pub fn write_ssl_request(out: &mut BytesMut) {
    write::sized(out, |out| out.put_u32(SSL));
}

/// Appends a `CancelRequest`.
pub fn write_cancel(out: &mut BytesMut, pid: i32, secret: &[u8]) {
    write::sized(out, |out| {
        out.put_u32(CANCEL);
        out.put_i32(pid);
        out.put_slice(secret);
    });
}

/// Splits the startup parameter `options` as PostgreSQL does (`pg_split_opts`, then `-c name=value`, `-cname=value`
/// and `--name=value`); dashes in names become underscores. The error is the word that is no setting.
pub fn split_options(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = split_words(options).into_iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or(word)?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(word);
        };
        match assignment.split_once('=') {
            Some((name, value)) if !name.is_empty() => found.push((name.replace('-', "_"), value.to_owned())),
            _ => return Err(assignment),
        }
    }
    Ok(found)
}

fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // C's isspace, which PostgreSQL asks.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => {
                let word = word.get_or_insert_default();
                word.extend(chars.next());
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u32, pairs: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        write_startup(&mut out, protocol, pairs.iter().map(|(n, v)| (*n, v.as_bytes())));
        out
    }

    fn startup(protocol: u32, pairs: &[(&str, &str)]) -> Startup {
        match Initial::parse(&packet(protocol, pairs)[4..]) {
            Ok(Initial::Startup(startup)) => startup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_startup_message_reads_back() {
        let startup = startup(PROTOCOL_3_0, &[("user", "u"), ("database", "d"), ("user", "v")]);
        assert_eq!(startup.get("user"), Some(&b"v"[..]));
        assert_eq!(startup.get("database"), Some(&b"d"[..]));
        assert_eq!(startup.get("options"), None);
    }

    #[test]
    fn malformed_packets_are_refused() {
        let whole = packet(PROTOCOL_3_0, &[("user", "u")]);
        for cut in 8..whole.len() {
            assert!(Initial::parse(&whole[4..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = whole[4..].to_vec();
        longer.push(0);
        assert!(Initial::parse(&longer).is_err());
        assert_eq!(packet_len(&[0, 0, 0x27, 0x11]), Err(WireError::Length));
        assert_eq!(packet_len(&[0, 0, 0, 7]), Err(WireError::Length));
        assert_eq!(
            Initial::parse(&[0, 2, 0, 0]),
            Err(StartupError::Protocol(2 << 16))
        );
    }

    #[test]
    fn newer_protocols_are_negotiated_down_and_grease_is_nothing_special() {
        let mut out = BytesMut::new();
        startup(PROTOCOL_3_0, &[]).negotiate(&mut out);
        startup(PROTOCOL_3_2, &[]).negotiate(&mut out);
        assert!(out.is_empty());
        let grease = startup(0x0003_270f, &[("_pq_.test_protocol_negotiation", "")]);
        assert_eq!(grease.negotiated(), PROTOCOL_3_2);
        grease.negotiate(&mut out);
        assert_eq!(&out[..13], b"v\0\0\0\x2b\0\x03\0\x02\0\0\0\x01");
        assert_eq!(&out[13..], b"_pq_.test_protocol_negotiation\0");
    }

    #[test]
    fn options_are_split_as_postgresql_splits_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            split_options(r"-c a=1 -cb=2  --c-d=x\ y -c e=\\"),
            Ok(vec![
                pair("a", "1"),
                pair("b", "2"),
                pair("c_d", "x y"),
                pair("e", "\\")
            ])
        );
        assert_eq!(split_options("-d 5"), Err("-d".into()));
        assert_eq!(split_options("-c"), Err("-c".into()));
        assert_eq!(split_options("-c nothing"), Err("nothing".into()));
        assert_eq!(split_options("  "), Ok(vec![]));
    }

    #[test]
    fn cancel_requests_carry_keys_of_both_lengths() {
        for len in [4, 32, 256] {
            let mut out = BytesMut::new();
            write_cancel(&mut out, 42, &vec![9; len]);
            let wanted = Initial::Cancel {
                pid: 42,
                secret: vec![9; len],
            };
            assert_eq!(Initial::parse(&out[4..]), Ok(wanted));
        }
        assert!(Initial::parse(&[4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 1, 2, 3]).is_err());
    }
}
