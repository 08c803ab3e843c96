//! A directory in a few bytes: what is asked of it, and what its answers lead to.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const SIMPLE: &str = "ldapserver=h ldapprefix=\"cn=\" ldapsuffix=\",dc=x\"";
const SEARCH: &str = "ldapserver=h ldapbasedn=dc=x ldapbinddn=cn=r ldapbindpasswd=rpw";

fn ldap(options: &str) -> Arc<Ldap> {
    Arc::new(Ldap::parse(options).unwrap())
}

fn password(text: &str) -> Password {
    Password::new(text.as_bytes())
}

fn message(id: u8, tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    together(SEQUENCE, &[element(INTEGER, &[id]), together(tag, parts)])
}

fn result(id: u8, tag: u8, code: u8) -> Vec<u8> {
    let text = |text: &[u8]| element(STRING, text);
    message(
        id,
        tag,
        &[element(ENUMERATED, &[code]), text(b""), text(b"so\nit is")],
    )
}

fn entry(id: u8, name: &str) -> Vec<u8> {
    message(
        id,
        SEARCH_ENTRY,
        &[element(STRING, name.as_bytes()), element(SEQUENCE, &[])],
    )
}

fn sent(step: Step) -> Vec<u8> {
    match step {
        Step::Send(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn error(step: Step) -> LdapError {
    match step {
        Step::Wrong(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_simple_bind_is_one_request() {
    let (ldap, password) = (ldap(SIMPLE), password("pw"));
    let (mut exchange, first) = Exchange::begin(&ldap, "bob", &password);
    assert_eq!(
        sent(first),
        b"\x30\x19\x02\x01\x01\x60\x14\x02\x01\x03\x04\x0bcn=bob,dc=x\x80\x02pw"
    );
    assert!(matches!(
        exchange.answer(&result(1, BIND_RESPONSE, 0)),
        Step::Right
    ));
    assert_eq!(exchange.goodbye(), b"\x30\x05\x02\x01\x02\x42\x00");
    assert!(matches!(
        exchange.answer(&result(1, BIND_RESPONSE, 0)),
        Step::Wrong(_)
    ));
}

#[test]
fn result_codes_are_told_apart() {
    let (ldap, password) = (ldap(SIMPLE), password("pw"));
    let outcome = |code| {
        let (mut exchange, _) = Exchange::begin(&ldap, "bob", &password);
        error(exchange.answer(&result(1, BIND_RESPONSE, code)))
    };
    assert_eq!(outcome(49), LdapError::WrongPassword);
    assert_eq!(
        outcome(53).to_string(),
        "the LDAP server answers the bind of the user with result code 53: so?it is"
    );
}

#[test]
fn empty_passwords_and_names_are_never_sent() {
    for options in [SIMPLE, SEARCH, "ldapserver=h ldapprefix=\"\" ldaptls=1"] {
        let (ldap, empty) = (ldap(options), password(""));
        assert_eq!(
            error(Exchange::begin(&ldap, "bob", &empty).1),
            LdapError::EmptyPassword
        );
        assert_eq!(
            error(Exchange::begin(&ldap, "", &password("x")).1),
            LdapError::EmptyPassword
        );
    }
    let (ldap, pw) = (ldap(SEARCH), password("pw"));
    let mut exchange = searching(&ldap, &pw);
    exchange.answer(&entry(2, ""));
    assert_eq!(
        error(exchange.answer(&result(2, SEARCH_DONE, 0))),
        LdapError::NoSuchUser
    );
}

/// An exchange that has sent its search, as request 2.
fn searching<'a>(ldap: &'a Ldap, password: &'a Password) -> Exchange<'a> {
    let (mut exchange, first) = Exchange::begin(ldap, "bob", password);
    assert!(sent(first).ends_with(b"\x04\x04cn=r\x80\x03rpw"));
    let search = sent(exchange.answer(&result(1, BIND_RESPONSE, 0)));
    assert!(
        search.ends_with(b"\xa3\x0a\x04\x03uid\x04\x03bob\x30\x05\x04\x031.1"),
        "{search:?}"
    );
    exchange
}

#[test]
fn a_search_must_find_exactly_one_entry() {
    let (ldap, pw) = (ldap(SEARCH), password("pw"));
    let done = |code| result(2, SEARCH_DONE, code);

    let mut exchange = searching(&ldap, &pw);
    assert!(matches!(
        exchange.answer(&message(2, SEARCH_REFERENCE, &[])),
        Step::Read
    ));
    assert!(matches!(exchange.answer(&entry(2, "cn=Bob,dc=x")), Step::Read));
    let bind = sent(exchange.answer(&done(0)));
    assert!(bind.ends_with(b"\x04\x0bcn=Bob,dc=x\x80\x02pw"), "{bind:?}");
    assert!(matches!(
        exchange.answer(&result(3, BIND_RESPONSE, 0)),
        Step::Right
    ));

    let mut exchange = searching(&ldap, &pw);
    assert_eq!(error(exchange.answer(&done(0))), LdapError::NoSuchUser);
    let mut exchange = searching(&ldap, &pw);
    assert_eq!(error(exchange.answer(&done(32))), LdapError::NoSuchUser);
    let mut exchange = searching(&ldap, &pw);
    exchange.answer(&entry(2, "cn=Bob,dc=x"));
    assert_eq!(
        error(exchange.answer(&entry(2, "cn=Bob,dc=y"))),
        LdapError::Ambiguous
    );
    let mut exchange = searching(&ldap, &pw);
    exchange.answer(&entry(2, "cn=Bob,dc=x"));
    assert_eq!(error(exchange.answer(&done(4))), LdapError::Ambiguous);
    let mut exchange = searching(&ldap, &pw);
    assert!(matches!(
        error(exchange.answer(&done(50))),
        LdapError::Refused { code: 50, .. }
    ));
}

#[test]
fn a_reader_without_name_or_password_is_anonymous() {
    for options in ["", "ldapbinddn=cn=r", "ldapbindpasswd=x"] {
        let ldap = ldap(&format!("ldapserver=h ldapbasedn=dc=x {options}"));
        let (_, first) = Exchange::begin(&ldap, "bob", &password("pw"));
        assert!(sent(first).ends_with(b"\x04\x00\x80\x00"), "{options}");
    }
}

#[test]
fn nothing_is_said_before_tls_but_the_wish_for_it() {
    let (ldap, pw) = (ldap("ldapserver=h ldapsuffix=@x ldaptls=1"), password("secret"));
    let (mut exchange, first) = Exchange::begin(&ldap, "bob", &pw);
    assert!(sent(first).ends_with(b"\x77\x18\x80\x161.3.6.1.4.1.1466.20037"));
    assert!(matches!(
        exchange.answer(&result(1, EXTENDED_RESPONSE, 0)),
        Step::StartTls
    ));
    // What comes before the handshake is nobody's answer.
    let (mut early, _) = Exchange::begin(&ldap, "bob", &pw);
    early.answer(&result(1, EXTENDED_RESPONSE, 0));
    assert!(matches!(
        error(early.answer(&result(1, BIND_RESPONSE, 0))),
        LdapError::Malformed(_)
    ));
    assert!(sent(exchange.secured()).ends_with(b"\x04\x05bob@x\x80\x06secret"));
    let (mut refused, _) = Exchange::begin(&ldap, "bob", &pw);
    let error = error(refused.answer(&result(1, EXTENDED_RESPONSE, 52)));
    assert!(
        matches!(
            error,
            LdapError::Refused {
                what: "StartTLS",
                code: 52,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_was_not_asked_is_refused() {
    let (ldap, pw) = (ldap(SIMPLE), password("pw"));
    for answer in [
        result(2, BIND_RESPONSE, 0),
        result(1, EXTENDED_RESPONSE, 0),
        result(1, SEARCH_DONE, 0),
        entry(1, "cn=bob"),
        message(1, BIND_RESPONSE, &[]),
        element(SEQUENCE, &[]),
        Vec::new(),
    ] {
        let (mut exchange, _) = Exchange::begin(&ldap, "bob", &pw);
        assert!(
            matches!(error(exchange.answer(&answer)), LdapError::Malformed(_)),
            "{answer:?}"
        );
    }
    let (mut exchange, _) = Exchange::begin(&ldap, "bob", &pw);
    let goodbye = error(exchange.answer(&result(0, EXTENDED_RESPONSE, 52)));
    assert!(matches!(
        goodbye,
        LdapError::Refused {
            what: "the connection",
            ..
        }
    ));
    assert!(!format!("{exchange:?}").contains("pw"));
}

#[test]
fn messages_are_cut_by_their_lengths() {
    let len = Exchange::message_len;
    assert_eq!(len(b""), Ok(None));
    assert_eq!(len(b"\x30"), Ok(None));
    assert_eq!(len(b"\x30\x05\x02"), Ok(Some(7)));
    assert_eq!(len(b"\x30\x82\x01"), Ok(None));
    assert_eq!(len(b"\x30\x82\x01\x00"), Ok(Some(260)));
    assert_eq!(len(b"\x30\x84\x00\x00\x00\x05"), Ok(Some(11)));
    for bad in [
        &b"\x30\x80"[..],
        b"\x30\x85",
        b"\x30\xff",
        b"\x30\x83\x10\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
    ] {
        assert!(len(bad).is_err(), "{bad:?}");
    }
    let long = element(STRING, &[b'x'; 300]);
    assert_eq!(&long[..4], b"\x04\x82\x01\x2c");
    assert_eq!(len(&long), Ok(Some(304)));
}

/// Filters, with what they are on the wire; nothing where they are none.
const FILTERS: &str = r"
(a=b)           a306040161040162
a=b             a306040161040162
(a=)            a3050401610400
(a=*)           870161
(a=b*)          a4080401613003800162
(a=*b*c)        a40b0401613006810162820163
(a>=b)          a506040161040162
(a<=b)          a606040161040162
(a~=b)          a806040161040162
(a=\28\2a)      a307040161040228 2a
(!(a=b))        a208a306040161040162
(&(a=b)(c=*))   a00ba306040161040162870163
(|(a=b))        a108a306040161040162
(a:=b)          a906820161830162
(a:dn:1.2:=b)   a90e8103312e3282016183016284 01ff
(a
a)
(a=b
(a=b))
(a=b)(c=d)
()
(=b)
(a b=c)
(a=\2)
(a=\zz)
(a=**)
(!(a=b)(c=d))
(&(a=b)
(:=b)
";

#[test]
fn filters_are_encoded_as_the_protocol_has_them() {
    for line in FILTERS.lines().filter(|line| !line.is_empty()) {
        let (text, expected) = line.split_once("  ").unwrap_or((line, ""));
        let wanted = expected.replace(' ', "");
        let found = encode_filter(text).map(|bytes| hex(&bytes)).unwrap_or_default();
        assert_eq!(found, wanted, "{text}");
    }
    assert_eq!(encode_filter(&"(!".repeat(100_000)), None);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

proptest! {
    #[test]
    fn any_bytes_never_panic_nor_open_the_door(messages in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
        for options in [SIMPLE, SEARCH, "ldapserver=h ldapsuffix=@x ldaptls=1"] {
            let (ldap, pw) = (ldap(options), password("pw"));
            let (mut exchange, _) = Exchange::begin(&ldap, "bob", &pw);
            for message in &messages {
                let _ = Exchange::message_len(message);
                prop_assert!(!matches!(exchange.answer(message), Step::Right));
            }
        }
    }

    #[test]
    fn any_text_is_a_value_and_nothing_else(user in ".*") {
        let ldap = ldap(SEARCH);
        let Bind::Search(search) = &ldap.bind else { panic!("a search") };
        let encoded = encode_filter(&search.filter_for(&user)).unwrap();
        let parts = [element(STRING, b"uid"), element(STRING, user.as_bytes())];
        prop_assert_eq!(encoded, together(0xa3, &parts));
    }
}
