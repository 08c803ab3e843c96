use super::*;
use crate::auth::{AuthError, Password};
use postgres_protocol::authentication::sasl::{ChannelBinding as TheirBinding, ScramSha256};

/// A source of bytes that are different each time and the same in each run.
fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 0_u8;
    move |bytes| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(17);
        }
    }
}

fn fresh_nonce() -> Vec<u8> {
    nonce(&mut counter())
}

fn verifier(password: &[u8]) -> Verifier {
    Verifier::derive(password, b"salt of 16 bytes", 5)
}

fn server(password: &[u8], binding: Binding) -> ServerExchange {
    ServerExchange::new(verifier(password), fresh_nonce(), binding)
}

fn tls() -> ChannelBinding {
    ChannelBinding::tls_server_end_point(*b"hash of a certificate")
}

mod rfc_7677 {
    use super::*;

    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &[u8] = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn keys() -> SaltedKeys {
        let salt = decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        SaltedKeys::derive(b"pencil", &salt, 4096)
    }

    #[test]
    fn server_speaks_the_example() {
        let exchange = ServerExchange::new(keys().verifier(), SERVER_NONCE.to_vec(), Binding::Absent);
        let (first, next) = exchange.first(CLIENT_FIRST).unwrap();
        assert_eq!(first, SERVER_FIRST);
        let (last, revealed) = next.last(CLIENT_FINAL).unwrap();
        assert_eq!(last, SERVER_FINAL);
        assert!(revealed == keys());
    }

    #[test]
    fn keys_prove_the_example() {
        let without_proof = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let auth_message = [&CLIENT_FIRST[3..], b",", SERVER_FIRST, b",", without_proof];
        let proof = [b"p=", &*encode(&keys().proof(&auth_message))].concat();
        assert!(CLIENT_FINAL.ends_with(&proof));
        let signature = decode(&SERVER_FINAL[2..]).unwrap();
        assert!(keys().check_signature(&auth_message, &signature));
    }
}

mod verifiers {
    use super::*;

    /// Written by PostgreSQL 18 for the passwords beside them: plain ASCII, one that SASLprep changes, one that it
    /// prohibits (a bell) and that is therefore hashed as it stands.
    const WRITTEN: [(&str, &str); 4] = [
        (
            "pencil",
            "SCRAM-SHA-256$4096:HycpC1k9VTfIOSWdvwShmg==$skpPegbfTxlavvni9+R0H4VnrYW9hiLJ87+N+IDDpCw=:\
             KUJ5S6uHyko4v1NeccohrfFGXxdmr71T89QXS/sXraQ=",
        ),
        (
            "contrase\u{f1}a\u{aa} \u{2168}",
            "SCRAM-SHA-256$4096:UGIPAPslNVuGL6sCgKJwbw==$ImGGlCuqrDPaD1TJtiERlrCY1mLGogHKPz9QRo4k23o=:\
             qCWbRDjjdDWlFxCn/8lEtn7ZiyGHPHZGXXnJZgs5uxk=",
        ),
        (
            "bad\u{7}bell \u{aa}",
            "SCRAM-SHA-256$4096:BvTbp0ReXJFmm2vHLDCBeA==$2p9pKyVBTGaUPphYKjGrhqNqBDygg4d/YohMT4BmbFo=:\
             o8nhzDswhFS7xT0VK12L9ru1rzACZ1nan2BjPDvP/Es=",
        ),
        (
            "pencil",
            "SCRAM-SHA-256$8000:stv+/g09RsK1jjZeJGseDg==$JF60h4LYfR5RaKu8qNCxlUEZj71uDuty7E9BNB4R7Rc=:\
             vcCpxIP/6nBS49ioySZEDRGTDGxsOAH03BMl24XYxgs=",
        ),
    ];

    #[test]
    fn are_those_that_postgresql_makes() {
        for (password, written) in WRITTEN {
            let parsed: Verifier = written.parse().unwrap();
            let derived = Verifier::derive(password.as_bytes(), parsed.salt(), parsed.iterations());
            assert!(parsed == derived, "{password:?}");
            assert_eq!(derived.to_stored(), written);
        }
    }

    #[test]
    fn with_faults_are_refused_by_name() {
        let key = "skpPegbfTxlavvni9+R0H4VnrYW9hiLJ87+N+IDDpCw=";
        let cases = [
            (String::from("md5"), VerifierError::Form),
            (String::from("SCRAM-SHA-256$4096:c2FsdA=="), VerifierError::Form),
            (
                format!("SCRAM-SHA-256$4096$c2FsdA=={key}:{key}"),
                VerifierError::Form,
            ),
            (
                format!("SCRAM-SHA-256$0:c2FsdA==${key}:{key}"),
                VerifierError::Iterations,
            ),
            (
                format!("SCRAM-SHA-256$1000001:c2FsdA==${key}:{key}"),
                VerifierError::Iterations,
            ),
            (
                format!("SCRAM-SHA-256$99999999999:c2FsdA==${key}:{key}"),
                VerifierError::Iterations,
            ),
            (format!("SCRAM-SHA-256$4096:${key}:{key}"), VerifierError::Salt),
            (format!("SCRAM-SHA-256$4096:*${key}:{key}"), VerifierError::Salt),
            (
                format!("SCRAM-SHA-256$4096:c2FsdA==$c2FsdA==:{key}"),
                VerifierError::Key,
            ),
            (format!("SCRAM-SHA-256$4096:c2FsdA==${key}:"), VerifierError::Key),
        ];
        for (text, fault) in cases {
            assert_eq!(text.parse::<Verifier>().err(), Some(fault), "{text}");
        }
    }

    #[test]
    fn of_unknown_users_stay_the_same_and_differ_by_user_and_process() {
        let key = MockKey::new(&mut |bytes| bytes.fill(1));
        let other = MockKey::new(&mut |bytes| bytes.fill(2));
        let mock = Verifier::mock("anna", &key, ITERATIONS_DEFAULT);
        assert!(mock == Verifier::mock("anna", &key, ITERATIONS_DEFAULT));
        assert_ne!(
            mock.salt(),
            Verifier::mock("bert", &key, ITERATIONS_DEFAULT).salt()
        );
        assert_ne!(
            mock.salt(),
            Verifier::mock("anna", &other, ITERATIONS_DEFAULT).salt()
        );
        assert_eq!(
            (mock.salt().len(), mock.iterations()),
            (SALT_LEN, ITERATIONS_DEFAULT)
        );
    }
}

mod towards_clients {
    use super::*;

    fn run_theirs(
        password: &[u8],
        server: ServerExchange,
        theirs: TheirBinding,
    ) -> Result<SaltedKeys, AuthError> {
        let mut client = ScramSha256::new(password, theirs);
        let (server_first, next) = server.first(client.message())?;
        client.update(&server_first).unwrap();
        let (server_final, keys) = next.last(client.message())?;
        client.finish(&server_final).unwrap();
        Ok(keys)
    }

    #[test]
    fn anothers_client_is_let_in_whatever_the_password_is_made_of() {
        let passwords: [&[u8]; 4] = [
            b"pencil",
            "I\u{ad}X \u{2168} \u{e9}".as_bytes(),
            "\u{7}bell".as_bytes(),
            b"\xff\xfe not UTF-8",
        ];
        for password in passwords {
            let theirs = TheirBinding::unsupported();
            let keys = run_theirs(password, server(password, Binding::Absent), theirs).unwrap();
            assert!(
                keys.verifier() == verifier(password),
                "the client key is the real one"
            );
        }
    }

    #[test]
    fn anothers_client_binds_to_the_channel() {
        let theirs = || TheirBinding::tls_server_end_point(b"hash of a certificate".to_vec());
        run_theirs(b"pencil", server(b"pencil", Binding::Chosen(tls())), theirs()).unwrap();

        let elsewhere = ChannelBinding::tls_server_end_point(*b"hash of another certificate");
        let outcome = run_theirs(b"pencil", server(b"pencil", Binding::Chosen(elsewhere)), theirs());
        assert_eq!(outcome.err(), Some(AuthError::BindingMismatch));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_fail_alike() {
        let key = MockKey::new(&mut counter());
        let mock = ServerExchange::new(
            Verifier::mock("anna", &key, ITERATIONS_DEFAULT),
            fresh_nonce(),
            Binding::Absent,
        );
        for exchange in [server(b"pencil", Binding::Absent), mock] {
            let outcome = run_theirs(b"pencils", exchange, TheirBinding::unsupported());
            assert_eq!(outcome.err(), Some(AuthError::WrongPassword));
        }
    }

    #[test]
    fn a_client_that_was_kept_from_our_offer_is_refused() {
        let outcome = run_theirs(
            b"pencil",
            server(b"pencil", Binding::Declined),
            TheirBinding::unrequested(),
        );
        assert_eq!(outcome.err(), Some(AuthError::BindingNegotiation));
        // Without an offer there was nothing to be kept from; and a client may be unable to take it.
        run_theirs(
            b"pencil",
            server(b"pencil", Binding::Absent),
            TheirBinding::unrequested(),
        )
        .unwrap();
        run_theirs(
            b"pencil",
            server(b"pencil", Binding::Declined),
            TheirBinding::unsupported(),
        )
        .unwrap();
    }

    #[test]
    fn first_messages_with_faults_are_refused() {
        const MALFORMED: AuthError = AuthError::Malformed("");
        let absent = || Binding::Absent;
        let chosen = || Binding::Chosen(tls());
        let cases: Vec<(&[u8], Binding, AuthError)> = vec![
            (b"", absent(), MALFORMED),
            (b"n", absent(), MALFORMED),
            (b"n,", absent(), MALFORMED),
            (b"n,,", absent(), MALFORMED),
            (b"n,,n=", absent(), MALFORMED),
            (b"n,,n=,r=", absent(), MALFORMED),
            (b"n,,n=,r=with blank", absent(), MALFORMED),
            (b"n,,n=,r=\xc3\xa9", absent(), MALFORMED),
            (b"n,,n=,x=abc", absent(), MALFORMED),
            (b"n,,r=abc", absent(), MALFORMED),
            (b"n,,m=must,n=,r=abc", absent(), MALFORMED),
            (b"n,,n=,r=abc\0", absent(), MALFORMED),
            (b"n,x,n=,r=abc", absent(), MALFORMED),
            (b"q,,n=,r=abc", absent(), MALFORMED),
            (b"p,,n=,r=abc", chosen(), MALFORMED),
            (b"n,a=root,n=,r=abc", absent(), AuthError::AuthorizationIdentity),
            (
                b"p=tls-server-end-point,,n=,r=abc",
                absent(),
                AuthError::BindingNegotiation,
            ),
            (
                b"p=tls-server-end-point,,n=,r=abc",
                Binding::Declined,
                AuthError::BindingNegotiation,
            ),
            (b"p=tls-unique,,n=,r=abc", chosen(), AuthError::BindingNegotiation),
            (b"y,,n=,r=abc", chosen(), AuthError::BindingNegotiation),
            (b"n,,n=,r=abc", chosen(), AuthError::BindingNegotiation),
        ];
        for (message, binding, expected) in cases {
            let error = server(b"pencil", binding).first(message).err().unwrap();
            let alike = std::mem::discriminant(&error) == std::mem::discriminant(&expected);
            assert!(alike, "{}: {error}", message.escape_ascii());
        }
    }

    #[test]
    fn names_and_optional_extensions_are_ignored() {
        let (first, _) = server(b"pencil", Binding::Absent)
            .first(b"n,,n=somebody,r=abc,x=more")
            .unwrap();
        assert!(first.starts_with(b"r=abc"));
    }

    #[test]
    fn final_messages_with_faults_are_refused() {
        let nonce = fresh_nonce();
        let nonce = std::str::from_utf8(&nonce).unwrap();
        let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let malformed = [
            String::new(),
            String::from("p="),
            format!("p={proof}"),
            format!("c=biws,r=abc{nonce}"),
            format!("c=biws,r=abc{nonce},p="),
            format!("c=biws,r=abc{nonce},p=AAAA"),
            format!("c=biws,r=abc{nonce},p={proof},x=y"),
            format!("c=biws,r=ab{nonce},p={proof}"),
            format!("c=biws,r=abc,p={proof}"),
            format!("r=abc{nonce},c=biws,p={proof}"),
            format!("c=biws,x=abc{nonce},p={proof}"),
        ];
        let fail = |message: &str| {
            let (_, next) = server(b"pencil", Binding::Absent).first(b"n,,n=,r=abc").unwrap();
            next.last(message.as_bytes()).err().unwrap()
        };
        for message in malformed {
            assert!(matches!(fail(&message), AuthError::Malformed(_)), "{message}");
        }
        let wrong = fail(&format!("c=biws,r=abc{nonce},x=ignored,p={proof}"));
        assert_eq!(wrong, AuthError::WrongPassword);
        let edited = fail(&format!("c=eSws,r=abc{nonce},p={proof}"));
        assert_eq!(edited, AuthError::BindingMismatch);
    }
}

mod towards_servers {
    use super::*;

    fn client() -> ClientExchange {
        ClientExchange::new(b"ours".to_vec(), &ClientBinding::Unable)
    }

    fn respond(server_first: &[u8]) -> Result<(Vec<u8>, ClientFinal), AuthError> {
        client().respond(server_first, Some(&Password::new(*b"pencil")), None)
    }

    fn meet(client: ClientExchange, server: ServerExchange, known: Option<&SaltedKeys>) -> SaltedKeys {
        let password = known.is_none().then(|| Password::new(*b"pencil"));
        let (server_first, server) = server.first(&client.first()).unwrap();
        let (client_final, client) = client.respond(&server_first, password.as_ref(), known).unwrap();
        let (server_final, _) = server.last(&client_final).unwrap();
        client.finish(&server_final).unwrap()
    }

    #[test]
    fn both_of_our_sides_understand_each_other() {
        let bindings = [
            (ClientBinding::Unable, Binding::Absent),
            (ClientBinding::NotOffered, Binding::Absent),
            (ClientBinding::Unable, Binding::Declined),
            (ClientBinding::Bound(tls()), Binding::Chosen(tls())),
        ];
        for (ours, theirs) in bindings {
            meet(
                ClientExchange::new(b"ours".to_vec(), &ours),
                server(b"pencil", theirs),
                None,
            );
        }
    }

    #[test]
    fn keys_replace_the_password_for_as_long_as_they_fit() {
        let keys = meet(client(), server(b"pencil", Binding::Absent), None);
        meet(client(), server(b"pencil", Binding::Absent), Some(&keys));
        let outcome = client().respond(b"r=oursX,s=c2FsdA==,i=5", None, Some(&keys));
        assert_eq!(outcome.err(), Some(AuthError::KeysDoNotFit));
        let outcome = client().respond(b"r=oursX,s=c2FsdA==,i=5", None, None);
        assert!(matches!(outcome.err(), Some(AuthError::NoSecret { .. })));
    }

    #[test]
    fn first_messages_with_faults_are_refused() {
        let long_salt = [b"r=oursX,s=", &*encode(&[7; SALT_LEN_MAX + 1]), b",i=5"].concat();
        let malformed: [&[u8]; 11] = [
            b"",
            b"r=",
            b"x=oursX,s=c2FsdA==,i=5",
            b"m=must,r=oursX,s=c2FsdA==,i=5",
            b"r=oursX,i=5",
            b"r=oursX,s=,i=5",
            b"r=oursX,s=*,i=5",
            b"r=oursX,s=c2FsdA==",
            b"r=oursX,s=c2FsdA==,i=",
            b"r=oursX,s=c2FsdA==,i=five",
            &long_salt,
        ];
        for message in malformed {
            let error = respond(message).err().unwrap();
            let expected = matches!(error, AuthError::Malformed(_))
                || message == b"r=" && error == AuthError::ServerNonce;
            assert!(expected, "{}: {error}", message.escape_ascii());
        }
        assert!(respond(b"r=oursX,s=c2FsdA==,i=5,x=ignored").is_ok());
    }

    #[test]
    fn an_impostor_without_the_secret_is_found_out() {
        let (_, next) = respond(b"r=oursX,s=c2FsdA==,i=5").unwrap();
        let outcome = next.finish(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        assert_eq!(outcome.err(), Some(AuthError::ServerSignature));
        for message in [&b""[..], b"v=", b"v=AAAA", b"x", b"v=*"] {
            let (_, next) = respond(b"r=oursX,s=c2FsdA==,i=5").unwrap();
            assert!(matches!(
                next.finish(message).err(),
                Some(AuthError::Malformed(_))
            ));
        }
    }

    #[test]
    fn a_servers_own_error_is_reported_and_made_printable() {
        let (_, next) = respond(b"r=oursX,s=c2FsdA==,i=5").unwrap();
        let outcome = next.finish(b"e=invalid-proof\x1b[31m");
        assert_eq!(
            outcome.err(),
            Some(AuthError::ServerRefused(String::from("invalid-proof?[31m")))
        );
    }

    #[test]
    fn cve_2026_6665_a_hostile_servers_nonce_is_checked_and_bounded() {
        let long = [b"r=ours", &*vec![b'x'; 1 << 20], b",s=c2FsdA==,i=5"].concat();
        assert!(matches!(respond(&long).err(), Some(AuthError::Malformed(_))));
        let nonces: [&[u8]; 5] = [b"r=ours", b"r=our", b"r=other", b"r=ours\x80\xff", b"r=ours tail"];
        for nonce in nonces {
            let message = [nonce, b",s=c2FsdA==,i=5"].concat();
            assert_eq!(
                respond(&message).err(),
                Some(AuthError::ServerNonce),
                "{}",
                nonce.escape_ascii()
            );
        }
    }

    #[test]
    fn cve_2026_42198_a_hostile_servers_iterations_are_bounded() {
        for count in [0, u64::from(ITERATIONS_MAX) + 1, u64::from(u32::MAX), u64::MAX] {
            let message = format!("r=oursX,s=c2FsdA==,i={count}");
            assert_eq!(
                respond(message.as_bytes()).err(),
                Some(AuthError::ServerIterations(count))
            );
        }
        let beyond = respond(b"r=oursX,s=c2FsdA==,i=99999999999999999999999999");
        assert!(matches!(beyond.err(), Some(AuthError::Malformed(_))));
    }
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of the alphabet that messages are made of, so that some get past the first check.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let alphabet = prop::sample::select(b"nyp=,,,rsicvem=abAB01/+ours\0\xff".to_vec());
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(alphabet, 0..60)
        ]
    }

    /// No password has a zero byte: the protocol cannot carry one.
    fn passwords() -> impl Strategy<Value = Vec<u8>> {
        let utf8 = any::<String>().prop_map(String::into_bytes);
        let zero_free = |password: &Vec<u8>| !password.contains(&0);
        prop_oneof![utf8, prop::collection::vec(any::<u8>(), 0..20)].prop_filter("zero byte", zero_free)
    }

    proptest! {
        #[test]
        fn never_panic(first in messages(), last in messages()) {
            let _ = server(b"pencil", Binding::Absent).first(&first);
            let (_, next) = server(b"pencil", Binding::Absent).first(b"n,,n=,r=abc").unwrap();
            prop_assert!(next.last(&last).is_err());
            let client = || ClientExchange::new(b"ours".to_vec(), &ClientBinding::Unable);
            let _ = client().respond(&first, None, None);
            let password = Password::new(*b"pencil");
            let (_, next) = client().respond(b"r=oursX,s=c2FsdA==,i=5", Some(&password), None).unwrap();
            prop_assert!(next.finish(&last).is_err());
            if let Ok(text) = std::str::from_utf8(&first) {
                let _ = text.parse::<Verifier>();
            }
        }

        #[test]
        fn as_password_pass_only_as_themselves(password in passwords(), other in passwords()) {
            let keys = SaltedKeys::derive(&password, b"salt", 1);
            let alike = prepare(&password) == prepare(&other);
            prop_assert_eq!(keys == SaltedKeys::derive(&other, b"salt", 1), alike);
        }
    }
}
