//! What a server sends.

use super::WireError;
use super::read::Reader;

/// Transaction status as a `ReadyForQuery` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Status {
    /// `I`: not in a transaction block.
    #[default]
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl Status {
    /// From the body of a `ReadyForQuery`.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        match body {
            b"I" => Ok(Self::Idle),
            b"T" => Ok(Self::InTransaction),
            b"E" => Ok(Self::Failed),
            _ => Err(WireError::Format),
        }
    }

    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The fields of an `ErrorResponse` or `NoticeResponse`; every one of them may be missing.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFields<'a> {
    body: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Over the message's body.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// The fields in order, up to the first that is malformed.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || match reader.u8() {
            Ok(0) | Err(_) => None,
            Ok(code) => reader.cstr().ok().map(|text| (code, text)),
        })
    }

    /// The field of this code ("Error and Notice Message Fields" in the manual).
    pub fn get(self, code: u8) -> Option<&'a [u8]> {
        self.iter().find(|(have, _)| *have == code).map(|(_, text)| text)
    }

    /// The same as text for people, malformed bytes replaced.
    pub fn text(self, code: u8) -> String {
        String::from_utf8_lossy(self.get(code).unwrap_or_default()).into_owned()
    }

    /// Whether the session ends with it: severity FATAL or PANIC.
    pub fn is_fatal(self) -> bool {
        let severity = self.get(b'V').or_else(|| self.get(b'S'));
        matches!(severity, Some(b"FATAL" | b"PANIC"))
    }
}

/// Name and value of a `ParameterStatus`.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut reader = Reader::new(body);
    let pair = (reader.cstr()?, reader.cstr()?);
    reader.end()?;
    Ok(pair)
}

/// The tag of a `CommandComplete`.
pub fn command_tag(body: &[u8]) -> Result<&[u8], WireError> {
    Reader::new(body).cstr()
}

/// Process id and secret of a `BackendKeyData` ("Protocol version 3.2": 4 to 256 bytes of secret).
pub fn key_data(body: &[u8]) -> Result<(i32, &[u8]), WireError> {
    let mut reader = Reader::new(body);
    let pid = reader.i32()?;
    match reader.rest().len() {
        4..=256 => Ok((pid, reader.rest())),
        _ => Err(WireError::Format),
    }
}

/// What a `NotificationResponse` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The process id of the backend that sent it.
    pub pid: i32,
    /// The channel.
    pub channel: &'a [u8],
    /// What was sent along.
    pub payload: &'a [u8],
}

/// The fields of a `NotificationResponse`.
pub fn notification(body: &[u8]) -> Result<Notification<'_>, WireError> {
    let mut reader = Reader::new(body);
    let notification = Notification {
        pid: reader.i32()?,
        channel: reader.cstr()?,
        payload: reader.cstr()?,
    };
    reader.end()?;
    Ok(notification)
}

/// The columns of a `DataRow`; `None` is NULL.
pub fn data_row(body: &[u8]) -> Result<Vec<Option<Box<[u8]>>>, WireError> {
    let mut reader = Reader::new(body);
    let mut row = Vec::new();
    for _ in 0..reader.u16()? {
        let len = reader.i32()?;
        row.push(match usize::try_from(len) {
            Ok(len) => Some(reader.bytes(len)?.into()),
            Err(_) if len == -1 => None,
            Err(_) => return Err(WireError::Format),
        });
    }
    reader.end()?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_any_field_is_no_trouble() {
        for body in [&b""[..], b"\0", b"C", b"C42601", b"SERROR\0"] {
            let fields = ErrorFields::new(body);
            assert_eq!(fields.get(b'C'), None);
            assert!(!fields.is_fatal());
        }
    }

    #[test]
    fn rows_are_values_and_nulls() {
        let row = b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(
            data_row(row),
            Ok(vec![Some(b"a"[..].into()), None, Some(b""[..].into())])
        );
        for bad in [
            &b""[..],
            b"\0\x01",
            b"\0\x01\0\0\0\x02a",
            b"\0\x01\xff\xff\xff\xfe",
            b"\0\0x",
        ] {
            assert_eq!(data_row(bad), Err(WireError::Format));
        }
    }

    #[test]
    fn notifications_are_read_whole_or_not_at_all() {
        let read = notification(b"\0\0\0\x07ch\0\0").unwrap();
        assert_eq!((read.pid, read.channel, read.payload), (7, &b"ch"[..], &b""[..]));
        for bad in [&b"\0\0\0"[..], b"\0\0\0\x07ch\0", b"\0\0\0\x07ch\0x\0y"] {
            assert!(notification(bad).is_err());
        }
    }

    #[test]
    fn keys_of_both_protocol_versions_are_read() {
        assert_eq!(key_data(b"\0\0\0\x07abcd"), Ok((7, &b"abcd"[..])));
        assert_eq!(key_data(&[1; 36]).map(|(_, key)| key.len()), Ok(32));
        assert_eq!(key_data(b"\0\0\0\x07abc"), Err(WireError::Format));
        assert_eq!(key_data(&[0; 261]), Err(WireError::Format));
    }
}
