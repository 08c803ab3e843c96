mod classifying;
mod setting;

use super::*;

/// The kinds and texts of a text's tokens, without spaces.
fn tokens(text: &str, standard_conforming_strings: bool) -> Vec<(Kind, &str)> {
    Lexer::new(text.as_bytes(), standard_conforming_strings)
        .filter(|token| token.kind != Kind::Space)
        .map(|token| (token.kind, std::str::from_utf8(token.text).unwrap()))
        .collect()
}

/// That a text is one token of a kind, and stays so when something follows.
#[track_caller]
fn whole(text: &str, kind: Kind) {
    assert_eq!(tokens(text, true), [(kind, text)]);
    let followed = format!("{text} ; x");
    assert_eq!(
        tokens(&followed, true),
        [(kind, text), (Kind::Semicolon, ";"), (Kind::Word, "x")]
    );
}

mod lexing {
    use super::*;

    #[test]
    fn strings_of_all_forms_hold_semicolons_and_quotes() {
        for text in [
            "''",
            "'a;b'",
            "'it''s; fine'",
            r"'back\'",
            r"E'it\'s; fine'",
            r"e'\\'",
            r"E'\\\''';'",
            "B'0;1'",
            "x'0;f'",
            "N'n;n'",
            r"U&'\0041;'",
            r"u&'\'",
            "$$;$$",
            "$$it's; \"fine$$",
            "$tag$ $$ ; $ta$ $tag $tag$",
            "$été$;$été$",
            "$_1$;$_1$",
            "'a'\n';b'",
            "'a' -- comment; with 'quotes'\n  -- and another\n\t';b'",
            "E'a'\r\n'it\\'s; read as it began'",
            "B'0'\n'1'",
        ] {
            whole(text, Kind::String);
        }
    }

    #[test]
    fn strings_on_one_line_do_not_continue() {
        for text in ["'a' 'b'", "'a' /* \n */ 'b'", "'a'\nE'b'", "'a'\n$$b$$"] {
            let kinds: Vec<_> = tokens(text, true).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds.first(), Some(&Kind::String), "{text}");
            assert_eq!(kinds.last(), Some(&Kind::String), "{text}");
            assert!(kinds.len() > 1, "{text}");
        }
        // Nor do names.
        assert_eq!(tokens("\"a\"\n\"b\"", true).len(), 2);
    }

    #[test]
    fn a_backslash_means_what_the_setting_says() {
        let text = r"'\'; DEALLOCATE ALL; --'";
        assert_eq!(tokens(text, true).first(), Some(&(Kind::String, r"'\'")));
        assert_eq!(tokens(text, false), [(Kind::String, text)]);
        let national = r"N'\';'";
        assert_eq!(tokens(national, true).first(), Some(&(Kind::String, r"N'\'")));
        assert_eq!(tokens(national, false), [(Kind::String, national)]);
        for fixed in [r"E'\';'", r"X'\'", r"U&'\'", r"$$\$$"] {
            assert_eq!(tokens(fixed, true), tokens(fixed, false));
        }
    }

    #[test]
    fn names_words_and_numbers() {
        whole("\"a \"\"quoted\"\"; name\"", Kind::QuotedName);
        whole("U&\"d\\0061t;\"", Kind::UnicodeName);
        for word in ["select", "_x9", "a$b$c", "größe", "e", "u", "E1", "B"] {
            whole(word, Kind::Word);
        }
        for number in ["0", "12", "1.5", ".5", "1.", "1e5", "1.5E-10", "1.e+3"] {
            whole(number, Kind::Number);
        }
        whole("$1", Kind::Parameter);
        whole("$123", Kind::Parameter);
    }

    #[test]
    fn comments() {
        whole("/* a ; ' \" $$ */", Kind::Comment);
        whole("/* a /* nested; */ /**/ ; */", Kind::Comment);
        whole("/***/", Kind::Comment);
        whole("/*/**/*/", Kind::Comment);
        assert_eq!(
            tokens("-- a ; '\nb", true),
            [(Kind::Comment, "-- a ; '"), (Kind::Word, "b")]
        );
        assert_eq!(
            tokens("-- a\rb", true).len(),
            2,
            "a carriage return ends the line too"
        );
        assert_eq!(
            tokens("+--;", true),
            [(Kind::Operator, "+"), (Kind::Comment, "--;")]
        );
        assert_eq!(
            tokens("<=/*;*/", true),
            [(Kind::Operator, "<="), (Kind::Comment, "/*;*/")]
        );
    }

    #[test]
    fn what_looks_like_the_beginning_of_something_else() {
        assert_eq!(
            tokens("a$$;", true),
            [(Kind::Word, "a$$"), (Kind::Semicolon, ";")]
        );
        assert_eq!(
            tokens("$1$$;$$", true),
            [(Kind::Parameter, "$1"), (Kind::String, "$$;$$")]
        );
        assert_eq!(
            tokens("1$$;$$", true),
            [(Kind::Number, "1"), (Kind::String, "$$;$$")]
        );
        assert_eq!(tokens("$a b$", true).len(), 3);
        assert_eq!(tokens("$-$", true).len(), 3);
        assert_eq!(
            tokens(r"aE'\'", true),
            [(Kind::Word, "aE"), (Kind::String, r"'\'")]
        );
        assert_eq!(
            tokens(r"1E'\''", true),
            [(Kind::Number, "1"), (Kind::String, r"E'\''")]
        );
        assert_eq!(
            tokens(r"1_E'\'", true),
            [(Kind::Number, "1"), (Kind::Word, "_E"), (Kind::String, r"'\'")]
        );
        assert_eq!(tokens("1..2", true)[0], (Kind::Number, "1"));
        assert_eq!(tokens("u & 'a'", true).len(), 3);
        assert_eq!(tokens("a::b[1](c.d)", true).len(), 12);
    }

    #[test]
    fn what_does_not_end() {
        for text in [
            "'a",
            "'a''",
            r"E'a\'",
            r"E'a\",
            "'a'\n'b",
            "\"a",
            "\"a\"\"",
            "U&\"a",
            "/* a",
            "/*/",
            "/* /* a */",
            "$$a$",
            "$a$ $A$",
            "$a$$$",
        ] {
            assert_eq!(tokens(text, true), [(Kind::Unterminated, text)]);
        }
    }
}

mod freeing {
    use super::*;
    use std::borrow::Cow;

    fn freed(text: &str) -> Deallocations<'_> {
        deallocations(text.as_bytes(), true)
    }

    fn sole(text: &str) -> Option<Deallocation<'_>> {
        freed(text).sole()
    }

    fn named(name: &str) -> Deallocation<'_> {
        Deallocation::Name(Cow::Borrowed(name.as_bytes()))
    }

    #[test]
    fn everything() {
        for text in [
            "DEALLOCATE ALL",
            "deallocate all;",
            "DeAllocate Prepare ALL",
            " \t\r\n\x0b\x0cDEALLOCATE\x0bALL ; ; ",
            ";;DEALLOCATE ALL;;",
            "/* a */ DEALLOCATE /* /* b */ */ ALL -- c",
            "-- a\nDEALLOCATE--b\nALL",
            ";/* a */DEALLOCATE ALL",
        ] {
            assert_eq!(sole(text), Some(Deallocation::All), "{text}");
        }
        for text in ["DISCARD ALL", "discard/**/all;", "; Discard All"] {
            assert_eq!(sole(text), Some(Deallocation::DiscardAll), "{text}");
        }
    }

    #[test]
    fn one_by_its_name() {
        // As PostgreSQL 18 understood each of them.
        let cases = [
            ("DEALLOCATE _pg3_0", "_pg3_0"),
            ("deallocate prepare Stmt_1 ;", "stmt_1"),
            ("DEALLOCATE \"Stmt \"\"1\"\"\"", "Stmt \"1\""),
            ("DEALLOCATE \"all\"", "all"),
            ("DEALLOCATE prepare", "prepare"),
            ("DEALLOCATE PREPARE Prepare", "prepare"),
            ("DEALLOCATE\"a\"", "a"),
            ("DEALLOCATE É", "É"),
            (r#"DEALLOCATE U&"\0061""#, "a"),
            (r#"deallocate prepare U&"!0061\!!b" UESCAPE '!'"#, r"a\!b"),
            (r#"DEALLOCATE U&"d!0061t!+0000E9" uescape '!' ;"#, "daté"),
            (r#"DEALLOCATE U&"\D83D\DE00""#, "\u{1f600}"),
            (
                "DEALLOCATE abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij",
                "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc",
            ),
            (
                "DEALLOCATE \"ééééééééééééééééééééééééééééééééé\"",
                "ééééééééééééééééééééééééééééééé",
            ),
        ];
        for (text, name) in cases {
            assert_eq!(sole(text), Some(named(name)), "{text}");
        }
    }

    #[test]
    fn nothing() {
        for text in [
            "",
            ";",
            "SELECT 1",
            "SELECT 'DEALLOCATE ALL'",
            "SELECT ';DEALLOCATE ALL'",
            "SELECT $$;DEALLOCATE ALL;$$",
            "SELECT $a$;$$;DEALLOCATE ALL;$a$",
            "SELECT 1 -- ;\n-- DEALLOCATE ALL",
            "SELECT 1; -- DEALLOCATE ALL",
            "SELECT 1; /* DEALLOCATE ALL */",
            "SELECT 1; /* /* */; DEALLOCATE ALL */",
            "SELECT \";DISCARD ALL\"",
            r"SELECT E'\';DEALLOCATE ALL'",
            "SELECT 'a'';DEALLOCATE ALL'",
            "SELECT 'a'\n';DEALLOCATE ALL'",
            "DISCARD PLANS",
            "DISCARD TEMP; DISCARD SEQUENCES",
            "DEALLOCATED ALL",
            "DEALLOCATE_ALL",
            "DISCARDALL",
            "\"DEALLOCATE\" ALL",
            "PREPARE deallocate AS SELECT 1",
            "SELECT deallocate, all_of FROM discard",
            // Errors of syntax, which free nothing.
            "DEALLOCATE",
            "DEALLOCATE;",
            "DEALLOCATE a b",
            "DEALLOCATE PREPARE a b",
            "DEALLOCATE 'a'",
            "DEALLOCATE \"\"",
            "DEALLOCATE $1",
            "DISCARD",
            "DISCARD \"all\"",
            "DISCARD ALL x",
            r#"DEALLOCATE U&"\00""#,
            r#"DEALLOCATE U&"\D83D""#,
            r#"DEALLOCATE U&"\0000""#,
            r#"DEALLOCATE U&"!0061" UESCAPE 'a'"#,
            r#"DEALLOCATE PREPARE U&"!0061" UESCAPE '!' x"#,
            "DEALLOCATE a UESCAPE '!'",
            // PostgreSQL refuses the text as a whole.
            "DEALLOCATE a; SELECT 'unterminated",
            "DEALLOCATE \"unterminated",
            "SELECT 'unterminated; DEALLOCATE ALL",
            "DISCARD ALL /* unterminated",
        ] {
            assert_eq!(freed(text).found, [], "{text}");
        }
    }

    #[test]
    fn among_other_statements() {
        for text in [
            "SELECT 1; DEALLOCATE ALL",
            "SELECT 1;/* a */DEALLOCATE ALL",
            "SELECT 1;-- a\nDEALLOCATE ALL",
            "DEALLOCATE ALL; SELECT 1;",
            "SELECT '\\';DEALLOCATE ALL; --'",
            "SELECT a$$;DEALLOCATE ALL --$$",
            "SELECT 'a' ';' ;DEALLOCATE ALL",
        ] {
            assert_eq!(freed(text).found, [Deallocation::All], "{text}");
            assert_eq!(sole(text), None, "{text}");
        }
        assert_eq!(freed("BEGIN; DISCARD ALL").found, [Deallocation::DiscardAll]);
        assert_eq!(freed("SELECT 1; DEALLOCATE A").found, [named("a")]);
    }

    #[test]
    fn several_in_their_order() {
        let cases = [
            ("DEALLOCATE a; DEALLOCATE b", vec![named("a"), named("b")]),
            (
                "DEALLOCATE ALL; SELECT 1; DEALLOCATE a; DISCARD ALL",
                vec![Deallocation::All, named("a"), Deallocation::DiscardAll],
            ),
        ];
        for (text, found) in cases {
            assert_eq!(freed(text).found, found, "{text}");
            assert_eq!(sole(text), None, "{text}");
        }
    }

    #[test]
    fn the_setting_decides_where_a_string_ends() {
        let text = br"SELECT '\'; DEALLOCATE ALL; --'";
        assert_eq!(deallocations(text, true).found, [Deallocation::All]);
        assert_eq!(deallocations(text, false).found, []);
    }

    #[test]
    fn ordinary_names_are_not_copied() {
        for text in ["DEALLOCATE _pg3_0", "DEALLOCATE \"Stmt 1\""] {
            let Some(Deallocation::Name(name)) = sole(text) else {
                panic!("{text}")
            };
            assert!(matches!(name, Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn long_hostile_texts_are_read_once() {
        // Each would take hours if every semicolon, quote or dollar sign began the reading anew.
        for piece in [
            ";/*", ";--", ";'", "$a$;", "';$$", "/*;", "; ", "'\n-- ", "$a", ";dealloc", "U&\"", "1.",
        ] {
            let text = piece.repeat(1 << 18);
            let _ = freed(&text);
        }
    }
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    /// Bytes at random, and the pieces that matter put together at random.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let pieces = [
            "'",
            "\"",
            "\\",
            "$",
            "$$",
            "$a$",
            "E'",
            "U&\"",
            "U&'",
            "B'",
            "--",
            "/*",
            "*/",
            "\n",
            " ",
            ";",
            "a",
            "1",
            ".",
            "e",
            "é",
            "DEALLOCATE",
            "PREPARE",
            "DISCARD",
            "ALL",
            "x",
            "+",
            "UESCAPE",
            "\u{b}",
        ];
        let composed = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            composed.prop_map(|pieces| pieces.concat().into_bytes()),
        ]
    }

    /// The verdict without the short cut.
    fn in_full(text: &[u8], standard: bool) -> bool {
        let frees = |statement: Statement<'_>| {
            let first = statement.head().next().unwrap();
            first.is_word("deallocate") || first.is_word("discard")
        };
        Statements::new(text, standard).any(frees)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn are_tiled_by_tokens(text in texts(), standard: bool) {
            let mut end = 0;
            let mut unterminated = false;
            for token in Lexer::new(&text, standard) {
                prop_assert!(!unterminated, "only the last token may be unterminated");
                prop_assert!(!token.text.is_empty());
                prop_assert_eq!(token.start, end);
                prop_assert_eq!(text.get(token.start..token.end()), Some(token.text));
                end = token.end();
                unterminated = token.kind == Kind::Unterminated;
                let _ = name(&token);
            }
            prop_assert_eq!(end, text.len());
        }

        #[test]
        fn never_free_behind_the_short_cut(text in texts(), standard: bool) {
            let freed = deallocations(&text, standard).found;
            prop_assert!(freed.is_empty() || in_full(&text, standard));
            // So a query that leaves nothing behind need not be asked what it frees.
            let reading = Reading { standard_conforming_strings: standard, encoding_is_safe: true };
            prop_assert!(freed.is_empty() || !verdict(&text, reading, &classifying::Few).is_inert());
            for found in &freed {
                if let Deallocation::Name(name) = found {
                    prop_assert!(!name.is_empty() && name.len() <= 63);
                }
            }
        }

        #[test]
        fn are_found_wherever_a_statement_may_begin(text in texts(), standard: bool) {
            let terminated = |token: &Token<'_>| token.kind != Kind::Unterminated;
            let end = Lexer::new(&text, standard).take_while(terminated).last().map_or(0, |token| token.end());
            // A line end for a comment that goes on to the end of the line; a semicolon for all else.
            let text = [&text[..end], b"\n;DEALLOCATE ALL"].concat();
            prop_assert!(deallocations(&text, standard).found.contains(&Deallocation::All));
        }
    }
}
