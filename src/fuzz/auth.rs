//! Exchanges about who somebody is. Whatever is said, nobody gets in without having said the right thing.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::auth::hba::{Ldap, Method as RuleMethod, Rules};
use crate::auth::ldap::{Exchange, Step as LdapStep};
use crate::auth::scram::{Binding, ClientBinding, ClientExchange, ServerExchange, prepare};
use crate::auth::{
    Challenge, ChannelBinding, ClientAuth, Credentials, Files, Method, Mock, Password, Reply, SaltedKeys,
    ServerAuth, Step, StoredSecret,
};
use crate::chance::Input;

use super::files::text;

const PASSWORD: &[u8] = b"pencil";
const SALT: &[u8] = b"a salt of 16 by.";

/// Derived with one iteration, so that nothing here is slow.
static KEYS: LazyLock<SaltedKeys> = LazyLock::new(|| SaltedKeys::derive(PASSWORD, SALT, 1));
static MOCK: LazyLock<Mock> = LazyLock::new(|| Mock::new(&mut |bytes| bytes.fill(3)));

fn binding() -> ChannelBinding {
    ChannelBinding::tls_server_end_point(*b"the hash of a certificate")
}

/// The message with a few changes.
fn changed(message: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut changed = message.to_vec();
    for _ in 0..input.byte() % 4 {
        let at = usize::from(input.byte()) % (changed.len() + 1);
        let end = (at + usize::from(input.byte() % 4)).min(changed.len());
        let put = usize::from(input.byte() % 8);
        changed.splice(at..end, input.bytes(put).iter().copied());
    }
    changed
}

/// Whether somebody asks for so many iterations that a run would take long. The bound itself has its own tests.
fn asks_for_much(message: &[u8]) -> bool {
    let mut counts = message.windows(5).filter(|window| window.starts_with(b"i="));
    counts.any(|window| window[2..].iter().all(u8::is_ascii_digit))
}

/// howdah is the server, and knows one verifier. With an odd first byte the client is an honest one whose messages are
/// changed on the way; otherwise the messages are the input.
pub fn scram_server(data: &[u8]) {
    let mut input = Input::new(data);
    let honest = input.byte() % 2 == 1;
    let (ours, theirs) = match input.byte() % 4 {
        0 => (Binding::Absent, ClientBinding::Unable),
        1 => (Binding::Absent, ClientBinding::NotOffered),
        2 => (Binding::Declined, ClientBinding::Unable),
        _ => (Binding::Chosen(binding()), ClientBinding::Bound(binding())),
    };
    let server = ServerExchange::new(KEYS.verifier(), b"ofTheServer".to_vec(), ours);
    if !honest {
        if let Ok((_, server)) = server.first(input.some()) {
            assert!(server.last(input.rest()).is_err(), "without the password");
        }
        return;
    }
    let client = ClientExchange::new(b"ofTheClient".to_vec(), &theirs);
    let first = client.first();
    let first_heard = changed(&first, &mut input);
    let Ok((answer, server)) = server.first(&first_heard) else {
        assert_ne!(first, first_heard);
        return;
    };
    let Ok((last, _)) = client.respond(&answer, None, Some(&KEYS)) else {
        assert_ne!(first, first_heard);
        return;
    };
    let last_heard = changed(&last, &mut input);
    let unchanged = first == first_heard && last == last_heard;
    assert_eq!(server.last(&last_heard).is_ok(), unchanged);
}

/// howdah is the client, and the server may be an impostor.
pub fn scram_client(data: &[u8]) {
    let mut input = Input::new(data);
    let honest = input.byte() % 2 == 1;
    let (theirs, ours) = match input.byte() % 3 {
        0 => (Binding::Absent, ClientBinding::Unable),
        1 => (Binding::Absent, ClientBinding::NotOffered),
        _ => (Binding::Chosen(binding()), ClientBinding::Bound(binding())),
    };
    let client = ClientExchange::new(b"ofTheClient".to_vec(), &ours);
    let password = Password::new(PASSWORD);
    let respond = |client: ClientExchange, message: &[u8]| {
        let password = (!asks_for_much(message)).then_some(&password);
        client.respond(message, password, Some(&KEYS)).ok()
    };
    if !honest {
        if let Some((_, client)) = respond(client, input.some()) {
            assert!(client.finish(input.rest()).is_err(), "it proved nothing");
        }
        return;
    }
    let server = ServerExchange::new(KEYS.verifier(), b"ofTheServer".to_vec(), theirs);
    let (first, server) = server.first(&client.first()).expect("it is right");
    let first_heard = changed(&first, &mut input);
    let Some((answer, client)) = respond(client, &first_heard) else {
        assert_ne!(first, first_heard);
        return;
    };
    let Ok((last, _)) = server.last(&answer) else {
        assert_ne!(first, first_heard);
        return;
    };
    let last_heard = changed(&last, &mut input);
    let is_believed = client.finish(&last_heard).is_ok();
    // Extensions behind the signature are allowed, and mean nothing.
    let behind = last_heard
        .strip_prefix(&last[..])
        .filter(|_| first == first_heard);
    match behind {
        Some([]) => assert!(is_believed),
        Some([b',', ..]) => {}
        _ => assert!(!is_believed),
    }
}

/// Passwords, md5 and what surrounds SCRAM: both sides, by whole message bodies.
pub fn challenge(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte().is_multiple_of(2) {
        client_answers(&mut input);
    } else {
        server_asks(&mut input);
    }
}

fn secret(which: u8) -> Option<StoredSecret> {
    match which % 4 {
        0 => None,
        1 => Some(StoredSecret::plain(PASSWORD)),
        2 => Some("md53dd9d8a4eec2d5b4f4a4f3a4c8f5a0a7".parse().expect("a hash")),
        _ => Some(StoredSecret::Scram(KEYS.verifier())),
    }
}

fn client_answers(input: &mut Input<'_>) {
    let method = input.pick(&[Method::Password, Method::Md5, Method::Scram]);
    let secret = secret(input.byte());
    if method == Method::Scram && matches!(secret, Some(StoredSecret::Plain(_))) {
        // Derives 4096 iterations, and is the same as with a verifier from then on.
        return;
    }
    let binding = input.byte().is_multiple_of(2).then(binding);
    let challenge = Challenge {
        method,
        user: "bob",
        secret: secret.as_ref(),
        mock: &MOCK,
        binding: binding.as_ref(),
    };
    let (mut exchange, mut step) = ClientAuth::begin(&challenge, &mut |bytes| bytes.fill(7));
    while let Step::Send(request) = step {
        assert!(request.body().len() >= 4);
        let body = input.some();
        step = exchange.answer(body);
        if let Step::Done(_) = step {
            let given = body.strip_suffix(b"\0").expect("a password ends with a zero");
            let known = matches!(secret, Some(StoredSecret::Plain(_) | StoredSecret::Scram(_)));
            let in_clear = method == Method::Password && known && *prepare(given) == *PASSWORD;
            let hashed = method == Method::Md5 && given.len() == 35 && given.starts_with(b"md5");
            assert!(in_clear || hashed, "{}", given.escape_ascii());
        }
    }
    assert!(matches!(exchange.answer(b"more"), Step::Refused(..)));
}

fn server_asks(input: &mut Input<'_>) {
    let all = Credentials {
        user: "bob".to_owned(),
        password: Some(Password::new(PASSWORD)),
        md5: None,
        keys: Some(KEYS.clone()),
    };
    let credentials = match input.byte() % 3 {
        0 => all,
        1 => Credentials::from_secret("bob", &StoredSecret::plain(PASSWORD)),
        _ => Credentials::default(),
    };
    let binding = input.byte().is_multiple_of(2).then(binding);
    let must_bind = input.byte().is_multiple_of(2);
    let mut exchange = ServerAuth::new(credentials, binding);
    if must_bind {
        exchange = exchange.bound();
    }
    let mut is_scram = false;
    while !input.is_empty() {
        let code = input.pick(&[0, 3, 5, 10, 11, 12, 2, 99]);
        let data = input.some();
        if asks_for_much(data) {
            return;
        }
        is_scram |= code == 10;
        match exchange.answer(&[&i32::to_be_bytes(code)[..], data].concat(), &mut |bytes| {
            bytes.fill(9);
        }) {
            Ok(Reply::Ok) => {
                assert!(!is_scram && !must_bind, "a server that has proved nothing");
                assert!(exchange.into_keys().is_none());
                return;
            }
            Ok(Reply::Send(body)) => assert!(!must_bind || body.starts_with(b"SCRAM") || is_scram),
            Ok(Reply::Continue) => panic!("nobody here can sign"),
            Err(_) => return,
        }
    }
}

/// Files that are one text, which is read a few times at most.
pub(super) struct OneFile<'a> {
    text: &'a str,
    reads_left: Cell<usize>,
}

impl<'a> OneFile<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            reads_left: Cell::new(8),
        }
    }
}

impl Files for OneFile<'_> {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        let left = self.reads_left.get();
        self.reads_left.set(left.saturating_sub(1));
        match path.file_name().and_then(|name| name.to_str()) {
            _ if left == 0 => Err(std::io::ErrorKind::NotFound.into()),
            Some("main") => Ok(self.text.to_owned()),
            // What is included is the beginning of the same file: it may include it again.
            Some("half") => Ok(text(&self.text.as_bytes()[..self.text.len() / 2])),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, directory: &Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(vec![directory.join("half"), directory.join("other")])
    }
}

static DIRECTORIES: LazyLock<Vec<Arc<Ldap>>> = LazyLock::new(|| {
    let lines = "host all all all ldap ldapserver=l ldapprefix=\"cn=\" ldapsuffix=\",dc=x\"\n\
                 host all all all ldap ldapserver=l ldaptls=1 ldapbasedn=\"dc=x\" ldapbinddn=\"cn=r\" ldapbindpasswd=p\n\
                 host all all all ldap ldapserver=l ldapbasedn=\"dc=x\" ldapsearchfilter=\"(&(uid=$username)(!(a=*)))\"\n";
    let rules = Rules::parse(Path::new("main"), &OneFile::new(lines)).expect("they are right");
    let ldap = rules.iter().filter_map(|rule| match &rule.method {
        RuleMethod::Ldap(ldap) => Some(ldap.clone()),
        _ => None,
    });
    ldap.collect()
});

/// What an LDAP server says, message after message. It may say yes to everything, but not out of turn.
pub fn ldap(data: &[u8]) {
    let mut input = Input::new(data);
    let which = usize::from(input.byte()) % DIRECTORIES.len();
    let user = String::from_utf8_lossy(input.some()).into_owned();
    let password = Password::new(PASSWORD);
    let (mut exchange, mut step) = Exchange::begin(&DIRECTORIES[which], &user, &password);
    let mut asked = 0;
    loop {
        match step {
            LdapStep::Send(request) => {
                let len = Exchange::message_len(&request)
                    .expect("a message")
                    .expect("a whole one");
                assert_eq!(len, request.len());
                asked += 1;
            }
            LdapStep::Read => {}
            LdapStep::StartTls => {
                step = exchange.secured();
                continue;
            }
            LdapStep::Right => {
                assert!(asked > which, "the user was asked for, after what comes before");
                return;
            }
            LdapStep::Wrong(_) => return,
        }
        let message = input.some();
        if message.is_empty() {
            return;
        }
        let _ = Exchange::message_len(message);
        step = exchange.answer(message);
    }
}
