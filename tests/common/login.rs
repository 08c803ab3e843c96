//! The client's side of a login: trust, password, md5, SCRAM-SHA-256.

use std::fmt;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use super::msg;
use super::wire::{Frame, NoFrame, PgError, Wire};

/// Why a login failed.
#[derive(Debug)]
pub enum LoginError {
    /// The peer said so.
    Refused(PgError),
    /// The connection failed or was closed without a word.
    Broken(String),
}

impl LoginError {
    /// The SQLSTATE, or nothing.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Broken(_) => "",
        }
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {error:?}"),
            Self::Broken(why) => write!(f, "broken: {why}"),
        }
    }
}

impl From<std::io::Error> for LoginError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

fn read(wire: &mut Wire) -> Result<Frame, LoginError> {
    loop {
        let frame = match wire.try_read() {
            Ok(frame) => frame,
            Err(NoFrame::Closed) => return Err(LoginError::Broken("closed during the login".into())),
            Err(NoFrame::Timeout) => return Err(LoginError::Broken("no answer during the login".into())),
        };
        match frame.kind {
            b'E' => return Err(LoginError::Refused(frame.error())),
            b'N' | b'v' => {}
            _ => return Ok(frame),
        }
    }
}

/// Answers what the server asks after a startup message, up to the first `ReadyForQuery`.
pub fn finish(wire: &mut Wire, params: &[(&str, &str)], password: Option<&str>) -> Result<(), LoginError> {
    let user = params
        .iter()
        .find(|(name, _)| *name == "user")
        .map_or("", |(_, value)| *value);
    let secret = || password.ok_or_else(|| LoginError::Broken("the server wants a password".into()));
    loop {
        let frame = read(wire)?;
        if frame.kind == b'Z' {
            return Ok(());
        }
        if frame.kind != b'R' {
            continue;
        }
        let (code, rest) = frame
            .body
            .split_first_chunk::<4>()
            .expect("an authentication code");
        match u32::from_be_bytes(*code) {
            0 | 12 => {}
            3 => wire.send(&msg::password(&with_nul(secret()?))),
            5 => wire.send(&msg::password(&with_nul(&md5_answer(user, secret()?, rest)))),
            10 => scram(wire, rest, secret()?)?,
            other => return Err(LoginError::Broken(format!("authentication request {other}"))),
        }
    }
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).expect("four bits");
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn md5_hex(first: &[u8], second: &[u8]) -> String {
    hex(&Md5::new().chain_update(first).chain_update(second).finalize())
}

/// What a client answers to an md5 challenge.
pub fn md5_answer(user: &str, password: &str, salt: &[u8]) -> String {
    format!(
        "md5{}",
        md5_hex(md5_hex(password.as_bytes(), user.as_bytes()).as_bytes(), salt)
    )
}

fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes())
        .as_ref()
        .to_vec()
}

/// One attribute of a SCRAM message.
fn attribute<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .split(',')
        .find_map(|part| part.strip_prefix(name))
        .unwrap_or_default()
}

fn scram(wire: &mut Wire, mechanisms: &[u8], password: &str) -> Result<(), LoginError> {
    let offered = String::from_utf8_lossy(mechanisms).into_owned();
    if !offered.split('\0').any(|name| name == "SCRAM-SHA-256") {
        return Err(LoginError::Broken(format!("no SCRAM-SHA-256 among {offered:?}")));
    }
    let bare = "n=,r=howdahtestnonce0123";
    let first = format!("n,,{bare}");
    let length = u32::try_from(first.len()).expect("short").to_be_bytes();
    wire.send(&msg::password(
        &[b"SCRAM-SHA-256\0", length.as_slice(), first.as_bytes()].concat(),
    ));

    let frame = read(wire)?;
    let server_first = String::from_utf8_lossy(&frame.body[4..]).into_owned();
    let (nonce, salt) = (attribute(&server_first, "r="), attribute(&server_first, "s="));
    let rounds: std::num::NonZeroU32 = attribute(&server_first, "i=")
        .parse()
        .map_err(|_| LoginError::Broken(server_first.clone()))?;
    let salt = BASE64
        .decode(salt)
        .map_err(|_| LoginError::Broken(server_first.clone()))?;
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let client_key = hmac(&salted, "Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let without_proof = format!("c=biws,r={nonce}");
    let whole = format!("{bare},{server_first},{without_proof}");
    let signature = hmac(stored_key.as_ref(), &whole);
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(key, sign)| key ^ sign)
        .collect();
    wire.send(&msg::password(
        format!("{without_proof},p={}", BASE64.encode(proof)).as_bytes(),
    ));

    let frame = read(wire)?;
    let server_final = String::from_utf8_lossy(&frame.body[4..]).into_owned();
    let expected = BASE64.encode(hmac(&hmac(&salted, "Server Key"), &whole));
    if attribute(&server_final, "v=") == expected {
        Ok(())
    } else {
        Err(LoginError::Broken(format!(
            "the server does not know the password: {server_final}"
        )))
    }
}
