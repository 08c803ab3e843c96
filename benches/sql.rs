//! The lexer and the classifier: what every text pays. `inert` are those that leave nothing behind, nearly all there are.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use howdah::sql::{
    Effects, Functions, Lexer, Reading, Volatility, contains_either, has_escaped_name, hidden_effects,
    verdict,
};

fn main() {
    divan::main();
}

const INERT: [(&str, &str); 6] = [
    ("BEGIN", "BEGIN"),
    ("COMMIT", "COMMIT"),
    (
        "pgbench's SELECT",
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    ),
    (
        "UPDATE with parameters",
        "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
    ),
    (
        "INSERT of five values",
        "INSERT INTO orders (id, customer, status, note, placed) VALUES (1, 17, 'open', 'call first', now())",
    ),
    (
        "an ORM's SELECT",
        r#"SELECT "u"."id", "u"."name", "u"."email", "u"."created_at", count("o"."id") AS "orders" FROM "users" AS "u"
           LEFT OUTER JOIN "orders" AS "o" ON ("o"."user_id" = "u"."id" AND "o"."status" <> 'void')
           WHERE "u"."tenant_id" = $1 AND lower("u"."email") LIKE $2 GROUP BY "u"."id" ORDER BY "u"."name" LIMIT 50"#,
    ),
];

const TELLING: [(&str, &str); 3] = [
    ("SET", "SET lock_timeout = '30s'"),
    ("CREATE TEMP TABLE", "CREATE TEMP TABLE t (id int)"),
    ("DO", "DO $$ BEGIN PERFORM 1; END $$"),
];

/// A database in which nobody has made functions.
struct Own;

impl Functions for Own {
    fn volatility(&self, _name: &[u8]) -> Volatility {
        Volatility::Harmless
    }
}

fn text_of(texts: &[(&str, &'static str)], name: &str) -> &'static str {
    let found = texts.iter().find(|(title, _)| *title == name);
    found.expect("a name of the list").1
}

#[divan::bench(args = INERT.map(|(name, _)| name))]
fn inert(bencher: Bencher, name: &str) {
    let text = text_of(&INERT, name);
    assert!(verdict(text.as_bytes(), Reading::default(), &Own).is_inert());
    bencher
        .counter(BytesCount::of_str(text))
        .bench_local(|| verdict(black_box(text.as_bytes()), Reading::default(), &Own));
}

#[divan::bench(args = TELLING.map(|(name, _)| name))]
fn telling(bencher: Bencher, name: &str) {
    let text = text_of(&TELLING, name);
    assert!(!verdict(text.as_bytes(), Reading::default(), &Own).is_inert());
    bencher.bench_local(|| verdict(black_box(text.as_bytes()), Reading::default(), &Own));
}

#[divan::bench(args = INERT.map(|(name, _)| name))]
fn lexer(bencher: Bencher, name: &str) {
    let text = text_of(&INERT, name);
    bencher
        .counter(BytesCount::of_str(text))
        .bench_local(|| Lexer::new(black_box(text.as_bytes()), true).count());
}

/// What every query and every Parse is looked through for besides: names of prepared statements that are howdah's.
#[divan::bench(args = INERT.map(|(name, _)| name))]
fn names(bencher: Bencher, name: &str) {
    let text = text_of(&INERT, name).as_bytes();
    bencher.counter(BytesCount::of_slice(text)).bench_local(|| {
        let text = black_box(text);
        contains_either(text, [b"pg_prepared_statement", b"howdah_"]) || has_escaped_name(text)
    });
}

/// What a text that may do anything is looked through for: a block, and as many times its body.
#[divan::bench(args = [1, 10, 100])]
fn hidden(bencher: Bencher, times: usize) {
    let body = "PERFORM count(*) FROM pg_class WHERE relname = 'orders' AND relkind IN ('r', 'p'); ";
    let text = format!("DO $$ BEGIN {}END $$", body.repeat(times));
    assert!(hidden_effects(text.as_bytes()) == Effects::NONE);
    bencher
        .counter(BytesCount::of_str(&text))
        .bench_local(|| hidden_effects(black_box(text.as_bytes())));
}
