//! The house rules that a compiler does not know: floors, sizes, nothing left behind.
//!
//! Each rule is a function from text to faults, tried on bad samples below, so that a green run means something.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/lib.rs`: a module uses its own floor and those below.
const FLOORS: &[(&str, u32)] = &[
    ("error", 0),
    ("farewell", 0),
    ("stats", 0),
    ("config", 0),
    ("chance", 0),
    ("wire", 1),
    ("sql", 1),
    ("auth", 2),
    ("net", 2),
    ("tls", 2),
    ("server", 3),
    ("authority", 4),
    ("pool", 4),
    ("client", 5),
    ("admin", 6),
    ("metrics", 6),
    ("log", 6),
    ("app", 7),
    ("fuzz", 8),
];

/// Files longer than this want another room.
const FILE_LINES_MAX: usize = 600;
/// Functions longer than this have state that wants a type.
const FUNCTION_LINES_MAX: usize = 70;
/// Modules that read what peers send.
const NO_PANIC: [&str; 3] = ["wire", "sql", "auth"];
/// The lints that they deny.
const NO_PANIC_LINTS: [&str; 2] = ["clippy::unwrap_used", "clippy::indexing_slicing"];

fn floor_of(module: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

/// The source with comments, strings and character literals blanked out; every line keeps its number.
fn bare(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let len = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment_len(rest),
            ['"', ..] => string_len(rest),
            ['r', '"' | '#', ..] if !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                raw_string_len(rest)
            }
            ['\'', '\\', ..] => {
                2 + rest
                    .iter()
                    .skip(2)
                    .skip(1)
                    .position(|c| *c == '\'')
                    .map_or(0, |end| end + 2)
            }
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if len == 0 {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        let end = (at + len).min(chars.len());
        out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

fn block_comment_len(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_len(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_len(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let start = hashes + 2;
    let body = rest[start..].windows(end.len()).position(|window| window == end);
    body.map_or(rest.len(), |body| start + body + end.len())
}

/// The line number of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Modules of this crate that a source names, with the line: `crate::x`, `crate::{x, y::z}`, `howdah::x`.
fn modules_used(source: &str) -> Vec<(usize, String)> {
    let source = bare(source);
    let mut found = Vec::new();
    for (offset, path) in source.match_indices("crate::") {
        let rest = &source[offset + path.len()..];
        let line = line_of(&source, offset);
        let names = if let Some(group) = rest.strip_prefix('{') {
            group_heads(group)
        } else {
            vec![head(rest)]
        };
        found.extend(
            names
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(|name| (line, name)),
        );
    }
    found
}

fn head(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The first names of the items of a `{…}` group whose brace has been read.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![head(group)];
    for (offset, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(&group[offset + 1..])),
            _ => {}
        }
    }
    heads
}

/// Arrows from `module` to a higher floor.
fn upward_arrows(module: &str, source: &str) -> Vec<String> {
    let Some(floor) = floor_of(module) else {
        return vec![format!(
            "module {module} stands on no floor: put it into the table of src/lib.rs and tests/tidy.rs"
        )];
    };
    let above = |(line, used): (usize, String)| {
        let used_floor = floor_of(&used)?;
        let says = || format!("line {line}: {module} (floor {floor}) uses {used} (floor {used_floor})");
        (used_floor > floor).then(says)
    };
    modules_used(source).into_iter().filter_map(above).collect()
}

/// Functions that are too long, test functions included.
fn long_functions(source: &str) -> Vec<String> {
    let source = bare(source);
    let mut faults = Vec::new();
    for (offset, _) in source.match_indices("fn ") {
        if source[..offset].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &source[offset..];
        let Some(open) = rest
            .find(['{', ';'])
            .filter(|open| rest[*open..].starts_with('{'))
        else {
            continue;
        };
        let mut depth = 0_usize;
        let close = rest[open..].char_indices().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some((length, _)) = close else { continue };
        let lines = rest[open..open + length].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX + 2 {
            faults.push(format!(
                "line {}: {} has {lines} lines",
                line_of(&source, offset),
                head(&rest[3..])
            ));
        }
    }
    faults
}

/// Words that say that something is not done.
fn left_behind(source: &str) -> Vec<String> {
    // Spelt in two parts so that this file may be read by the rule too.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["#[igno", "re"],
        ["to", "do!("],
        ["unimple", "mented!("],
    ];
    let words: Vec<String> = words.iter().map(|parts| parts.concat()).collect();
    let in_line = |(number, line): (usize, &str)| {
        let word = words.iter().find(|word| line.contains(word.as_str()))?;
        Some(format!("line {}: {word}", number + 1))
    };
    source.lines().enumerate().filter_map(in_line).collect()
}

/// Lints that the root of a module that reads peers' bytes should deny and does not.
fn missing_denials(source: &str) -> Vec<String> {
    let compact: String = bare(source).split_whitespace().collect();
    let denied: String = compact
        .match_indices("#![deny(")
        .chain(compact.match_indices("#![forbid("))
        .filter_map(|(at, _)| compact[at..].split(")]").next())
        .collect();
    let missing = NO_PANIC_LINTS.iter().filter(|lint| !denied.contains(*lint));
    missing.map(|lint| format!("does not deny {lint}")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every Rust file below `dir` with its text, by its path from the root.
fn sources(dir: &str) -> BTreeMap<String, String> {
    let name = |path: &Path| {
        path.strip_prefix(root())
            .expect("below the root")
            .display()
            .to_string()
    };
    let read = |path: PathBuf| (name(&path), fs::read_to_string(&path).expect("a source file"));
    rust_files(&root().join(dir)).into_iter().map(read).collect()
}

/// The top module of a file of `src/`; none for `lib.rs` and `main.rs`.
fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    let module = below.split('/').next()?.trim_end_matches(".rs");
    (module != "lib" && module != "main" && module != "bin").then_some(module)
}

#[track_caller]
fn no_faults(rule: &str, faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

fn faults_of(files: &BTreeMap<String, String>, rule: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let of_file = |(path, text): (&String, &String)| {
        rule(text)
            .into_iter()
            .map(|fault| format!("{path}: {fault}"))
            .collect::<Vec<_>>()
    };
    files.iter().flat_map(of_file).collect()
}

#[test]
fn no_module_uses_a_higher_floor() {
    let files = sources("src");
    let faults = files.iter().flat_map(|(path, text)| {
        let arrows = module_of(path)
            .map(|module| upward_arrows(module, text))
            .unwrap_or_default();
        arrows.into_iter().map(move |fault| format!("{path}: {fault}"))
    });
    no_faults("arrows point downward", faults);
}

#[test]
fn every_floor_is_in_the_map() {
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    for module in sources("src").keys().filter_map(|path| module_of(path)) {
        let floor = floor_of(module).unwrap_or_else(|| panic!("{module} stands on no floor"));
        let row = map.lines().find(|line| line.contains(&format!("`{module}`")));
        let row = row.unwrap_or_else(|| panic!("{module} is not in the table of src/lib.rs"));
        assert!(
            row.contains(&format!("| {floor} |")),
            "{module}: src/lib.rs says another floor: {row}"
        );
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut files = sources("src");
    let too_long = |(path, text): (&String, &String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{path}: {lines} lines, {FILE_LINES_MAX} are enough"))
    };
    let mut faults: Vec<String> = files.iter().filter_map(too_long).collect();
    files.extend(sources("tests"));
    faults.extend(faults_of(&files, long_functions));
    no_faults("small rooms", faults);
}

#[test]
fn nothing_is_left_behind() {
    let mut files = sources("src");
    files.extend(sources("tests"));
    files.extend(sources("bench"));
    no_faults(
        "what is not done is an issue, not a comment",
        faults_of(&files, left_behind),
    );
}

#[test]
fn there_is_one_clock() {
    // The other one goes on while a test holds tokio's still, and a run in virtual time would be like no other.
    let other_clock = |text: &str| {
        let bare = bare(text);
        let named = |(_, line): &(usize, &str)| line.contains("std::time") && line.contains("Instant");
        let lines = bare.lines().enumerate().filter(named);
        lines
            .map(|(number, _)| format!("line {}: use tokio::time::Instant", number + 1))
            .collect()
    };
    no_faults("one clock", faults_of(&sources("src"), other_clock));
}

#[test]
fn modules_that_read_peers_cannot_panic() {
    let files = sources("src");
    let faults = NO_PANIC.iter().filter_map(|module| {
        let path = [format!("src/{module}/mod.rs"), format!("src/{module}.rs")];
        let (path, text) = path.iter().find_map(|path| files.get_key_value(path))?;
        Some(
            missing_denials(text)
                .into_iter()
                .map(move |fault| format!("{path}: {fault}")),
        )
    });
    no_faults("no panic from network bytes", faults.flatten());
}

#[test]
fn the_documents_name_every_module() {
    let modules: Vec<String> = sources("src")
        .keys()
        .filter_map(|path| module_of(path))
        .map(|module| format!("`{module}`"))
        .collect();
    let Ok(text) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        return;
    };
    let missing = modules
        .into_iter()
        .filter(|module| !text.contains(module.as_str()));
    no_faults("ARCHITECTURE.md names every module", missing);
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in [
        root().to_owned(),
        root().join("docs"),
        root().join("deploy"),
        root().join("bench"),
    ] {
        files.extend(
            fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path()),
        );
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a document");
        for link in relative_links(&text) {
            if !file.parent().expect("files have a parent").join(&link).exists() {
                faults.push(format!("{}: {link}", file.display()));
            }
        }
    }
    no_faults("links lead somewhere", faults);
}

/// The files that Markdown links to, without the part behind `#`.
fn relative_links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with(['#', '<']));
    files
        .filter_map(|target| target.split(['#', ' ']).next())
        .filter(|file| !file.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Tests of ours that the tables of a document name: `tests/file` or `tests/file::name`.
fn tests_named(text: &str) -> impl Iterator<Item = &str> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter(|code| code.starts_with("tests/"))
}

/// Whether there is such a test.
fn test_exists(named: &str) -> bool {
    let (file, name) = named.split_once("::").unwrap_or((named, ""));
    let Ok(source) = fs::read_to_string(root().join(file)) else {
        return false;
    };
    let spellings = [format!("fn {name}("), format!("def {name}(")];
    name.is_empty()
        || spellings
            .iter()
            .any(|spelling| source.contains(spelling.as_str()))
}

#[test]
fn the_tests_that_documents_name_exist() {
    let text = fs::read_to_string(root().join("docs/compatibility.md")).expect("docs/compatibility.md");
    assert!(tests_named(&text).count() > 20);
    let missing = tests_named(&text).filter(|named| !test_exists(named));
    no_faults("tests exist", missing.map(str::to_owned));
}

#[test]
fn tests_that_others_suites_lose_are_in_the_document_with_their_reasons() {
    let text = fs::read_to_string(root().join("docs/compatibility.md")).expect("docs/compatibility.md");
    let mut missing = Vec::new();
    for suite in [
        "psycopg",
        "psycopg2",
        "asyncpg",
        "node-postgres",
        "postgres-js",
        "libpq_pipeline",
        "regress",
    ] {
        let list = fs::read_to_string(root().join(format!("tests/suites/{suite}.toml"))).expect("a list");
        let list: toml::Table = list.parse().expect("TOML");
        for group in list["exception"].as_array().expect("tables") {
            let tests = group["tests"].as_array().expect("patterns");
            let patterns = tests
                .iter()
                .map(|test| format!("  - `{}`\n", test.as_str().expect("text")));
            let reason = format!("- {suite}: {}\n", group["reason"].as_str().expect("text"));
            let entry = reason + &patterns.collect::<String>();
            if !text.contains(&entry) {
                missing.push(entry);
            }
        }
    }
    no_faults("docs/compatibility.md lists", missing);
}

mod the_rules_themselves {
    use super::*;

    #[test]
    fn an_upward_arrow_is_found_in_every_spelling() {
        for source in [
            "use crate::pool::Lease;",
            "use crate::{error::Refusal, pool::{Lease, Core}};",
            "use crate::{\n    error,\n    pool,\n};",
            "fn f() -> crate::pool::Lease { todo() }",
            "pub(crate) fn f(x: &crate::client::Client) {}",
        ] {
            assert_eq!(upward_arrows("server", source).len(), 1, "{source}");
        }
        for source in [
            "use crate::wire::scan;",
            "// use crate::pool::Lease;",
            "/// See [`crate::pool`].\nfn f() {}",
            "const X: &str = \"crate::pool::Lease\";",
            "const X: &str = r#\"a \" crate::pool::Lease\"#;",
            "use crate::{error::{Refusal, pool}, wire};",
            "use crate::server::connect;",
        ] {
            assert_eq!(upward_arrows("server", source), [] as [String; 0], "{source}");
        }
        assert_eq!(upward_arrows("attic", "").len(), 1, "a module without a floor");
    }

    #[test]
    fn a_quote_as_a_character_does_not_hide_what_follows() {
        assert_eq!(
            upward_arrows(
                "wire",
                "const Q: char = '\"';\nuse crate::app::run;\nconst R: char = '\"';"
            )
            .len(),
            1
        );
        assert_eq!(
            upward_arrows("wire", "const Q: u8 = b'\\'';\nuse crate::app::run;").len(),
            1
        );
        assert_eq!(
            upward_arrows("wire", "fn f<'a>(x: &'a str) -> &'a crate::app::App {}").len(),
            1
        );
    }

    #[test]
    fn long_functions_are_found_and_short_ones_are_not() {
        let body = "    step();\n".repeat(FUNCTION_LINES_MAX);
        assert_eq!(
            long_functions(&format!("fn short() {{\n{body}}}\n")),
            [] as [String; 0]
        );
        let found = long_functions(&format!(
            "fn ok() {{}}\nasync fn long() {{\n{body}    more();\n    more();\n}}\n"
        ));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("line 2: long has"), "{found:?}");
    }

    #[test]
    fn unfinished_work_is_found() {
        for sample in [
            ["// TO", "DO later"],
            ["#[igno", "re]"],
            ["fn f() { to", "do!() }"],
            ["// FIX", "ME"],
        ] {
            assert_eq!(left_behind(&sample.concat()).len(), 1, "{sample:?}");
        }
        assert!(left_behind("fn ignore() {}").is_empty());
    }

    #[test]
    fn missing_denials_are_found() {
        assert_eq!(
            missing_denials("//! Bytes.\n// #![deny(clippy::unwrap_used, clippy::indexing_slicing)]").len(),
            2
        );
        assert_eq!(missing_denials("#![deny(clippy::unwrap_used)]").len(), 1);
        assert!(
            missing_denials("#![deny(\n    clippy::unwrap_used,\n    clippy::indexing_slicing,\n)]")
                .is_empty()
        );
    }

    #[test]
    fn links_are_read() {
        let text = "[a](docs/a.md#x) [b](https://example.org/) [c](#here) ![d](d.png \"title\")";
        assert_eq!(relative_links(text), ["docs/a.md", "d.png"]);
    }
}
