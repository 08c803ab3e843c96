//! Whole exchanges, as the login shells drive them; and what other poolers' misfortunes teach.

use super::md5::Md5Hash;
use super::scram::{MECHANISM, MECHANISM_PLUS};
use super::*;
use crate::error::{Refusal, SqlState};

const PENCIL_MD5: &str = "md5890621e9f597c9a65ae6d9b8db02e14c"; // of user "md", by PostgreSQL 18
const PENCIL_SCRAM: &str = "SCRAM-SHA-256$4096:HycpC1k9VTfIOSWdvwShmg==$skpPegbfTxlavvni9+R0H4VnrYW9hiLJ87+N+IDDpCw=:\
    KUJ5S6uHyko4v1NeccohrfFGXxdmr71T89QXS/sXraQ="; // by PostgreSQL 18

/// Bytes that are different each time and the same in each run.
fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 1_u8;
    move |bytes| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(17);
        }
    }
}

fn secret(text: &str) -> StoredSecret {
    text.parse().unwrap()
}

fn secrets() -> [StoredSecret; 3] {
    [secret("pencil"), secret(PENCIL_MD5), secret(PENCIL_SCRAM)]
}

fn with_password(password: &str) -> Credentials {
    Credentials {
        user: "md".into(),
        password: Some(Password::new(password.as_bytes())),
        ..Credentials::default()
    }
}

fn tls() -> ChannelBinding {
    ChannelBinding::tls_server_end_point(*b"hash of a certificate")
}

/// One login of our server side into our client side, with the requests on the way.
struct Meeting {
    requests: Vec<AuthRequest>,
    outcome: Result<(Proof, Option<SaltedKeys>), Refusal>,
}

fn meet(method: Method, secret: Option<&StoredSecret>, credentials: &Credentials) -> Meeting {
    meet_over(method, secret, credentials, None)
}

fn meet_over(
    method: Method,
    secret: Option<&StoredSecret>,
    credentials: &Credentials,
    binding: Option<&ChannelBinding>,
) -> Meeting {
    let mut random = counter();
    let mock = Mock::new(&mut random);
    let challenge = Challenge {
        method,
        user: "md",
        secret,
        mock: &mock,
        binding,
    };
    let (mut client_side, mut step) = ClientAuth::begin(&challenge, &mut random);
    let mut server_side = ServerAuth::new(credentials.clone(), binding.cloned());
    let mut requests = Vec::new();
    let outcome = loop {
        match step {
            Step::Send(request) => {
                let reply = server_side.answer(&request.body(), &mut random).unwrap();
                let Reply::Send(body) = reply else {
                    panic!("{reply:?} to {request:?}")
                };
                requests.push(request);
                step = client_side.answer(&body);
            }
            Step::Done(Admitted { last, proof }) => {
                if let Some(request) = last {
                    assert_eq!(
                        server_side.answer(&request.body(), &mut random),
                        Ok(Reply::Continue)
                    );
                    requests.push(request);
                }
                assert_eq!(
                    server_side.answer(&0_i32.to_be_bytes(), &mut random),
                    Ok(Reply::Ok)
                );
                break Ok((proof, server_side.into_keys()));
            }
            Step::Refused(refusal, _) => break Err(refusal),
        }
    };
    Meeting { requests, outcome }
}

mod both_sides {
    use super::*;

    #[test]
    fn every_method_admits_the_right_password_where_the_secret_allows_it() {
        let right = with_password("pencil");
        let wrong = with_password("pencils");
        for method in [Method::Password, Method::Md5, Method::Scram] {
            for secret in secrets() {
                let hopeless = method == Method::Scram && matches!(secret, StoredSecret::Md5(_));
                let admitted = meet(method, Some(&secret), &right).outcome.is_ok();
                assert_eq!(admitted, !hopeless, "{method:?} with {secret:?}");
                assert!(
                    meet(method, Some(&secret), &wrong).outcome.is_err(),
                    "{method:?} with {secret:?}"
                );
            }
            assert!(
                meet(method, None, &right).outcome.is_err(),
                "{method:?} without a secret"
            );
        }
        assert!(meet(Method::Trust, None, &Credentials::default()).outcome.is_ok());
    }

    #[test]
    fn every_failure_that_has_to_do_with_a_secret_reads_the_same() {
        let expected = Refusal::new(
            SqlState::INVALID_PASSWORD,
            "password authentication failed for user \"md\"",
        );
        for method in [Method::Password, Method::Md5, Method::Scram] {
            let [plain, md5, scram] = secrets();
            for secret in [None, Some(plain), Some(md5), Some(scram)] {
                let outcome = meet(method, secret.as_ref(), &with_password("wrong")).outcome;
                assert_eq!(outcome.err().as_ref(), Some(&expected));
            }
        }
    }

    #[test]
    fn unknown_users_are_asked_the_same_as_known_ones() {
        for method in [Method::Password, Method::Md5, Method::Scram] {
            let known = meet(method, Some(&secret("pencil")), &with_password("wrong")).requests;
            let unknown = meet(method, None, &with_password("wrong")).requests;
            assert_eq!(known.len(), unknown.len());
            for pair in known.iter().zip(&unknown) {
                match pair {
                    (AuthRequest::SaslContinue(known), AuthRequest::SaslContinue(unknown)) => {
                        assert_eq!(known.len(), unknown.len());
                    }
                    (AuthRequest::Md5Password { .. }, AuthRequest::Md5Password { .. }) => {}
                    (known, unknown) => assert_eq!(known, unknown),
                }
            }
        }
    }

    #[test]
    fn md5_with_a_scram_verifier_runs_scram() {
        let meeting = meet(Method::Md5, Some(&secret(PENCIL_SCRAM)), &with_password("pencil"));
        assert_eq!(
            meeting.requests[0],
            AuthRequest::Sasl {
                mechanisms: &[MECHANISM]
            }
        );
        assert!(meeting.outcome.is_ok());
    }

    #[test]
    fn channels_are_bound_where_both_sides_can() {
        let meeting = meet_over(
            Method::Scram,
            Some(&secret("pencil")),
            &with_password("pencil"),
            Some(&tls()),
        );
        assert_eq!(
            meeting.requests[0],
            AuthRequest::Sasl {
                mechanisms: &[MECHANISM_PLUS, MECHANISM]
            }
        );
        assert!(meeting.outcome.is_ok());
    }

    #[test]
    fn keys_from_a_clients_proof_open_servers_with_the_same_verifier() {
        let known = secret(PENCIL_SCRAM);
        let (proof, _) = meet(Method::Scram, Some(&known), &with_password("pencil"))
            .outcome
            .unwrap();
        let Proof::Scram(keys) = proof else {
            panic!("{proof:?}")
        };
        let passed_on = Credentials {
            user: "md".into(),
            keys: Some(keys),
            ..Credentials::default()
        };
        let (_, kept) = meet(Method::Scram, Some(&known), &passed_on).outcome.unwrap();
        assert!(kept.is_some());
    }

    #[test]
    fn keys_of_a_login_are_given_back_for_the_next() {
        let known = secret("pencil");
        let mut credentials = with_password("pencil");
        let (_, keys) = meet(Method::Scram, Some(&known), &credentials).outcome.unwrap();
        credentials.keys = keys;
        assert!(meet(Method::Scram, Some(&known), &credentials).outcome.is_ok());
        // Another verifier: the keys do not fit, the password does.
        assert!(
            meet(Method::Scram, Some(&secret(PENCIL_SCRAM)), &credentials)
                .outcome
                .is_ok()
        );
    }

    #[test]
    fn a_stored_md5_hash_answers_the_md5_challenge() {
        let credentials = Credentials::from_secret("md", &secret(PENCIL_MD5));
        assert!(
            meet(Method::Md5, Some(&secret("pencil")), &credentials)
                .outcome
                .is_ok()
        );
    }
}

mod secrets {
    use super::*;

    #[test]
    fn are_told_apart_as_postgresql_does() {
        assert!(matches!(secret(PENCIL_MD5), StoredSecret::Md5(_)));
        assert!(matches!(secret(PENCIL_SCRAM), StoredSecret::Scram(_)));
        for plain in [
            "pencil",
            "md5",
            &PENCIL_MD5[..34],
            &PENCIL_MD5.to_uppercase(),
            "SCRAM-SHA-1$1",
        ] {
            assert!(matches!(secret(plain), StoredSecret::Plain(_)), "{plain}");
        }
        assert_eq!("".parse::<StoredSecret>().err(), Some(SecretError::Empty));
        let slip = PENCIL_SCRAM.replace("4096", "many").parse::<StoredSecret>();
        assert!(matches!(slip.err(), Some(SecretError::Verifier(_))));
    }

    #[test]
    fn verify_passwords_in_every_form() {
        for secret in secrets() {
            assert!(verify_password(&secret, "md", b"pencil"), "{secret:?}");
            for wrong in [&b""[..], b"Pencil", b"pencils", b"pencil\0"] {
                assert!(!verify_password(&secret, "md", wrong), "{secret:?}");
            }
        }
        assert!(
            !verify_password(&secret(PENCIL_MD5), "other", b"pencil"),
            "the user is the salt"
        );
    }

    #[test]
    fn md5_is_that_of_postgresql() {
        assert_eq!(
            Md5Hash::parse(PENCIL_MD5.as_bytes()),
            Some(Md5Hash::derive(b"pencil", "md"))
        );
        let theirs = postgres_protocol::authentication::md5_hash(b"md", b"pencil", [42, 61, 3, 250]);
        let hash = Md5Hash::derive(b"pencil", "md");
        assert_eq!(hash.respond([42, 61, 3, 250]), theirs.as_bytes());
        assert!(hash.check([42, 61, 3, 250], theirs.as_bytes()));
        assert!(!hash.check([42, 61, 3, 251], theirs.as_bytes()));
    }

    #[test]
    fn make_their_verifier_once() {
        let secret = PlainSecret::new(Password::new(*b"pencil"));
        let mocks = [1, 2].map(|byte| Mock::new(&mut |bytes: &mut [u8]| bytes.fill(byte)));
        let [first, second] = mocks.map(|mock| secret.clone().verifier("md", &mock).clone());
        assert!(first == second);
    }

    #[test]
    fn have_the_salt_that_nobody_of_that_name_would_have() {
        let mock = Mock::new(&mut counter());
        let secret = PlainSecret::new(Password::new(*b"pencil"));
        let known = secret.verifier("md", &mock);
        let unknown = mock.verifier("md");
        assert_eq!(known.salt(), unknown.salt());
        assert_eq!(known.iterations(), unknown.iterations());
        assert_ne!(known.stored_key(), unknown.stored_key());
    }

    #[test]
    fn never_show_themselves() {
        let mut random = counter();
        let [plain, md5, scram] = secrets();
        if let StoredSecret::Plain(plain) = &plain {
            plain.verifier("md", &Mock::new(&mut random));
        }
        let credentials = with_password("pencil");
        let mut server_side = ServerAuth::new(credentials.clone(), None);
        let reply = server_side.answer(&3_i32.to_be_bytes(), &mut random).unwrap();
        let keys = SaltedKeys::derive(b"pencil", b"salt", 1);
        let proof = Proof::Password(Password::new(*b"pencil"));
        let shown =
            format!("{plain:?}{md5:?}{scram:?}{credentials:?}{server_side:?}{reply:?}{keys:?}{proof:?}");
        for secret in ["pencil", "112, 101", "890621", "skpPeg", "112,"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

mod towards_clients {
    use super::*;

    fn begin(method: Method, secret: Option<&StoredSecret>) -> ClientAuth {
        let mut random = counter();
        let mock = Mock::new(&mut random);
        let challenge = Challenge {
            method,
            user: "md",
            secret,
            mock: &mock,
            binding: None,
        };
        ClientAuth::begin(&challenge, &mut random).0
    }

    fn refusal(step: Step) -> (SqlState, AuthError) {
        match step {
            Step::Refused(refusal, error) => (refusal.code, error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn password_messages_with_faults_are_refused() {
        for method in [Method::Password, Method::Md5] {
            for body in [&b""[..], b"pencil", b"pencil\0\0", b"pen\0cil\0"] {
                let (code, _) = refusal(begin(method, Some(&secret("pencil"))).answer(body));
                assert_eq!(code, SqlState::PROTOCOL_VIOLATION);
            }
            let (code, error) = refusal(begin(method, Some(&secret("pencil"))).answer(b"\0"));
            assert_eq!(
                (code, error),
                (SqlState::INVALID_PASSWORD, AuthError::WrongPassword)
            );
        }
    }

    #[test]
    fn a_mechanism_that_was_not_on_offer_is_refused() {
        let mut client_side = begin(Method::Scram, None);
        let body = [MECHANISM_PLUS.as_bytes(), b"\0\0\0\0\x0bn,,n=,r=abc"].concat();
        assert_eq!(refusal(client_side.answer(&body)).0, SqlState::PROTOCOL_VIOLATION);
    }

    #[test]
    fn nothing_follows_the_verdict() {
        let known = secret("pencil");
        let mut client_side = begin(Method::Password, Some(&known));
        assert!(matches!(client_side.answer(b"pencil\0"), Step::Done(_)));
        assert_eq!(refusal(client_side.answer(b"pencil\0")).1, AuthError::Ended);
        let mut client_side = begin(Method::Password, Some(&known));
        assert_eq!(
            refusal(client_side.answer(b"wrong\0")).1,
            AuthError::WrongPassword
        );
        assert_eq!(
            refusal(client_side.answer(b"pencil\0")).1,
            AuthError::Ended,
            "one attempt each"
        );
    }

    #[test]
    fn cve_2026_6664_lengths_that_lie_are_refused() {
        let first = b"n,,n=,r=abc";
        for len in [i32::MIN, -2, -1, 0, 10, 12, 1 << 20, i32::MAX - 1, i32::MAX] {
            let body = [MECHANISM.as_bytes(), b"\0", &len.to_be_bytes(), first].concat();
            let (code, _) = refusal(begin(Method::Scram, None).answer(&body));
            assert_eq!(code, SqlState::PROTOCOL_VIOLATION, "{len}");
        }
        for body in [
            &b""[..],
            b"\0",
            b"\0\0\0\0",
            b"SCRAM-SHA-256",
            b"SCRAM-SHA-256\0",
            b"SCRAM-SHA-256\0\0\0\0",
        ] {
            let (code, _) = refusal(begin(Method::Scram, None).answer(body));
            assert_eq!(code, SqlState::PROTOCOL_VIOLATION, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn requests_are_written_as_the_manual_says() {
        let sasl = AuthRequest::Sasl {
            mechanisms: &[MECHANISM_PLUS, MECHANISM],
        };
        assert_eq!(sasl.body(), b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        assert_eq!(AuthRequest::CleartextPassword.body(), b"\0\0\0\x03");
        assert_eq!(
            AuthRequest::Md5Password { salt: [1, 2, 3, 4] }.body(),
            b"\0\0\0\x05\x01\x02\x03\x04"
        );
        assert_eq!(AuthRequest::SaslContinue(b"r=".to_vec()).body(), b"\0\0\0\x0br=");
        assert_eq!(AuthRequest::SaslFinal(b"v=".to_vec()).body(), b"\0\0\0\x0cv=");
    }
}

mod towards_servers {
    use super::*;

    const SASL_OFFER: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
    const OK: &[u8] = b"\0\0\0\0";

    fn answers(credentials: &Credentials, bodies: &[&[u8]]) -> Result<Reply, AuthError> {
        let mut server_side = ServerAuth::new(credentials.clone(), None);
        let mut last = Err(AuthError::Ended);
        for body in bodies {
            last = server_side.answer(body, &mut counter());
        }
        last
    }

    #[test]
    fn a_server_that_skips_its_proof_is_an_impostor() {
        let credentials = with_password("pencil");
        assert_eq!(
            answers(&credentials, &[SASL_OFFER, OK]),
            Err(AuthError::ServerUnproven)
        );

        let mut random = counter();
        let mut server_side = ServerAuth::new(credentials.clone(), None);
        let Ok(Reply::Send(body)) = server_side.answer(SASL_OFFER, &mut random) else {
            panic!("no first message")
        };
        let nonce = body.rsplit(|byte| *byte == b'=').next().unwrap();
        let server_first = [b"\0\0\0\x0br=", nonce, b"X,s=c2FsdA==,i=5"].concat();
        assert!(matches!(
            server_side.answer(&server_first, &mut random),
            Ok(Reply::Send(_))
        ));
        assert_eq!(
            server_side.answer(OK, &mut random),
            Err(AuthError::ServerUnproven)
        );
        assert!(server_side.into_keys().is_none());
    }

    #[test]
    fn messages_out_of_order_are_refused() {
        let credentials = with_password("pencil");
        let orders: [&[&[u8]]; 7] = [
            &[b"\0\0\0\x0b"],
            &[b"\0\0\0\x0c"],
            &[SASL_OFFER, SASL_OFFER],
            &[SASL_OFFER, b"\0\0\0\x0cv=AAAA"],
            &[SASL_OFFER, b"\0\0\0\x03"],
            &[b"\0\0\0\x03", b"\0\0\0\x03"],
            &[b"\0\0\0\x03", b"\0\0\0\x05salt"],
        ];
        for order in orders {
            assert!(
                matches!(answers(&credentials, order), Err(AuthError::Malformed(_))),
                "{order:?}"
            );
        }
        assert_eq!(answers(&credentials, &[OK, OK]), Err(AuthError::Ended));
        assert_eq!(answers(&credentials, &[b"\0\0\0\x03", OK]), Ok(Reply::Ok));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let credentials = with_password("pencil");
        for (code, name) in [(2_u8, "Kerberos V5"), (7, "GSSAPI"), (9, "SSPI"), (99, "code 99")] {
            assert_eq!(
                answers(&credentials, &[&[0, 0, 0, code]]),
                Err(AuthError::Unsupported(name.into()))
            );
        }
        let oauth = answers(&credentials, &[b"\0\0\0\x0aOAUTHBEARER\0\0"]);
        assert_eq!(
            oauth,
            Err(AuthError::Unsupported("SASL mechanisms OAUTHBEARER".into()))
        );
    }

    #[test]
    fn a_missing_secret_is_named() {
        let nobody = Credentials::default();
        let hashed = Credentials::from_secret("md", &secret(PENCIL_MD5));
        let verified = Credentials::from_secret("md", &secret(PENCIL_SCRAM));
        let asked: [&[u8]; 3] = [b"\0\0\0\x03", b"\0\0\0\x05salt", SASL_OFFER];
        for (credentials, body) in [nobody, verified]
            .iter()
            .flat_map(|who| asked.map(|body| (who, body)))
        {
            assert!(matches!(
                answers(credentials, &[body]),
                Err(AuthError::NoSecret { .. })
            ));
        }
        assert!(matches!(
            answers(&hashed, &[SASL_OFFER]),
            Err(AuthError::NoSecret { .. })
        ));
        assert!(matches!(answers(&hashed, &[asked[1]]), Ok(Reply::Send(_))));
    }

    #[test]
    fn answers_are_written_as_the_manual_says() {
        let credentials = with_password("pencil");
        assert!(answers(&credentials, &[b"\0\0\0\x03"]) == Ok(Reply::Send(b"pencil\0".to_vec())));
        assert!(matches!(
            answers(&credentials, &[b"\0\0\0\x05too long"]),
            Err(AuthError::Malformed(_))
        ));
        let Ok(Reply::Send(first)) = answers(&credentials, &[SASL_OFFER]) else {
            panic!("no first message")
        };
        assert!(first.starts_with(b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r="));
        assert!(matches!(
            answers(&credentials, &[b"\0\0"]),
            Err(AuthError::Malformed(_))
        ));
    }
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    /// An authentication message: a code that means something, and data.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let code = prop::sample::select(vec![0_i32, 3, 5, 10, 11, 12, 77, -1]);
        let data = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            Just(b"SCRAM-SHA-256\0\0".to_vec()),
            Just(b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc".to_vec()),
        ];
        (code, data).prop_map(|(code, data)| [&code.to_be_bytes()[..], &data].concat())
    }

    proptest! {
        #[test]
        fn never_panic_nor_open_the_door(bodies in prop::collection::vec(messages(), 0..5)) {
            let known = secret(PENCIL_SCRAM);
            let mut random = counter();
            let mock = Mock::new(&mut random);
            for method in [Method::Password, Method::Md5, Method::Scram] {
                for secret in [None, Some(&known)] {
                    let challenge = Challenge { method, user: "md", secret, mock: &mock, binding: None };
                    let (mut client_side, _) = ClientAuth::begin(&challenge, &mut random);
                    for body in &bodies {
                        prop_assert!(!matches!(client_side.answer(body), Step::Done(_)));
                        prop_assert!(!matches!(client_side.answer(&body[4..]), Step::Done(_)));
                    }
                }
            }
            let credentials = with_password("pencil");
            let mut server_side = ServerAuth::new(credentials.clone(), None);
            for body in &bodies {
                let _ = server_side.answer(body, &mut random);
            }
        }
    }
}
