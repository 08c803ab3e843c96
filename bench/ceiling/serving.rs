//! The server: one row of one column, whatever is asked.

use crate::protocol::{each_message, message, word};

/// What PostgreSQL reports at a login.
const PARAMETERS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "off"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("session_authorization", "bench"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "Etc/UTC"),
];

/// The code of a `CancelRequest`, as it stands where others have their version.
const CANCEL: [u8; 4] = [4, 210, 22, 46];

/// Where a connection stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Startup,
    Session,
    Over,
}

/// The server's side of one connection.
#[derive(Default)]
pub(crate) struct Server {
    stage: Stage,
}

impl Server {
    /// Whether to close the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Reads whole requests from `input` and appends their answers to `out`. Returns how many bytes it has read.
    pub(crate) fn answer(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        if self.stage != Stage::Session {
            return self.log_in(input, out);
        }
        each_message(input, |tag| match tag {
            b'Q' => {
                row_description(out);
                row(out);
                message(out, b'Z', b"I");
            }
            b'P' => message(out, b'1', b""),
            b'B' => message(out, b'2', b""),
            b'D' => row_description(out),
            b'E' => row(out),
            b'C' => message(out, b'3', b""),
            b'S' => message(out, b'Z', b"I"),
            _ => {}
        })
    }

    fn log_in(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let [a, b, c, d, major, ..] = input else {
            return 0;
        };
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if input.len() < len {
            return 0;
        }
        if input.get(4..8) == Some(&CANCEL[..]) {
            self.stage = Stage::Over; // nothing takes long enough to be cancelled
            return len;
        }
        if *major != 0 {
            out.push(b'N'); // a request for TLS or GSS
            return len;
        }
        message(out, b'R', &word(0));
        for (name, value) in PARAMETERS {
            message(out, b'S', format!("{name}\0{value}\0").as_bytes());
        }
        message(out, b'K', &[0, 0, 0, 1, 0, 0, 0, 1]);
        message(out, b'Z', b"I");
        self.stage = Stage::Session;
        len
    }
}

/// `abalance`, an int4 as text.
fn row_description(out: &mut Vec<u8>) {
    let mut body = b"\0\x01abalance\0".to_vec();
    body.extend([
        0, 0, 0x40, 1, 0, 3, 0, 0, 0, 23, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ]);
    message(out, b'T', &body);
}

fn row(out: &mut Vec<u8>) {
    message(out, b'D', b"\0\x01\0\0\0\x010");
    message(out, b'C', b"SELECT 1\0");
}
