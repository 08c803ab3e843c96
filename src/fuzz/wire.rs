//! What a connection begins with.

use bytes::{BufMut, BytesMut};

use crate::wire::startup::{self, Initial};
use crate::wire::{frontend, scan};

/// The bytes of a connection that nobody knows yet.
pub fn startup(data: &[u8]) {
    let Ok(Some(len)) = startup::packet_len(data) else {
        return;
    };
    assert!((8..=startup::STARTUP_LEN_MAX).contains(&len));
    let Some(packet) = data.get(4..len) else { return };
    let mut again = BytesMut::new();
    match Initial::parse(packet) {
        Err(_) => return,
        Ok(Initial::Ssl) => startup::write_ssl_request(&mut again),
        Ok(Initial::Gssenc) => again.put_slice(&data[..len]),
        Ok(Initial::Cancel { pid, secret }) => startup::write_cancel(&mut again, pid, &secret),
        Ok(Initial::Startup(startup)) => {
            let pairs = startup.parameters.iter();
            let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_slice()));
            startup::write_startup(&mut again, startup.protocol, pairs);
            negotiation(&startup);
            crate::client::fuzz::wishes(&startup);
        }
    }
    assert_eq!(
        &again[..],
        &data[..len],
        "it was understood, so it can be written"
    );
}

fn negotiation(startup: &startup::Startup) {
    let mut answer = BytesMut::new();
    startup.negotiate(&mut answer);
    if !answer.is_empty() {
        let (header, _) = scan::message(&answer).expect("a message").expect("a whole one");
        assert_eq!((header.tag, header.len), (b'v', answer.len()));
    }
    if let Some(options) = startup.get("options") {
        options_survive(&String::from_utf8_lossy(options));
    }
    let body = startup.get("user").unwrap_or_default();
    let _ = (frontend::Parse::read(body), frontend::bound_value(body, 1));
}

/// Settings that were found are found again when they are written down.
fn options_survive(options: &str) {
    let Ok(found) = startup::split_options(options) else {
        return;
    };
    let quoted = |text: &str| {
        let quote = |letter: char| match letter {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' | '\\' => vec!['\\', letter],
            letter => vec![letter],
        };
        text.chars().flat_map(quote).collect::<String>()
    };
    let written: Vec<String> = found
        .iter()
        .map(|(name, value)| format!("-c {}={}", quoted(name), quoted(value)))
        .collect();
    assert_eq!(
        startup::split_options(&written.join(" ")),
        Ok(found),
        "{written:?}"
    );
}
