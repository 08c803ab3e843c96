//! Programs as users write them, in Python and for node, by twenty clients on a pool of two servers.
//!
//! They stand in `tests/clients/` and find their server in the `PG*` variables, so each can be run by hand as well:
//! `PGHOST=127.0.0.1 PGPORT=6432 .venv/bin/pytest tests/clients`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::tls::Certificates;
use common::{Cluster, Howdah, cluster, run};

/// More than any of the suites needs, less than nextest's limit.
const LIMIT: Duration = Duration::from_secs(400);

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Aims a command at a pool of two; `PGADMIN…` leads past the pool, to look at PostgreSQL from outside.
fn aim(command: &mut Command, cluster: &Cluster, howdah: &Howdah) {
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", howdah.target().port.to_string())
        .env("PGUSER", "app")
        .env("PGDATABASE", "app")
        .env("PGSSLMODE", "disable")
        .env("DIRECT_PORT", cluster.target().port.to_string())
        .current_dir(here());
}

/// Notes the numbers for `scripts/test`, shows the closing lines, and fails where the programs failed.
fn judge(name: &str, done: &Output, passed: u32, failed: u32) {
    let results = cluster::target_dir().join("client-results");
    fs::create_dir_all(&results).expect("target/ can be written");
    fs::write(results.join(name), format!("{passed} {failed}\n")).expect("target/ can be written");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && failed == 0 && passed > 0,
        "{name}: {}\n{said}",
        done.status
    );
    eprintln!("{}", cluster::tail(&said, 12));
}

/// The number before a word: `3` for `passed` in `3 passed, 1 failed`.
fn number_before(text: &str, word: &str) -> u32 {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|w| !w.is_empty())
        .collect();
    let at = words.iter().rposition(|candidate| *candidate == word);
    at.and_then(|at| words.get(at.checked_sub(1)?))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Runs programs in Python, and notes the numbers under that name.
fn python(name: &str, cluster: &Cluster, howdah: &Howdah, sslmode: &str, programs: &[&str]) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    assert!(python.exists(), "no .venv: run scripts/setup");
    let mut pytest = Command::new(python);
    pytest.args([
        "-B",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "--color=no",
    ]);
    pytest.args(programs);
    if let Ok(filter) = std::env::var("PYTEST_FILTER") {
        pytest.args(["-k", &filter]);
    }
    aim(&mut pytest, cluster, howdah);
    pytest.env("PGSSLMODE", sslmode);
    let done = run::output(&mut pytest, LIMIT);
    let said = String::from_utf8_lossy(&done.stdout);
    let last = said
        .lines()
        .rfind(|line| line.contains(" in "))
        .unwrap_or_default();
    let failed = number_before(last, "failed") + number_before(last, "error") + number_before(last, "errors");
    judge(name, &done, number_before(last, "passed"), failed);
}

#[test]
fn python_programs() {
    let cluster = Cluster::options().conf("max_connections = 200").start();
    cluster.sql("CREATE ROLE tenant_0; CREATE ROLE tenant_1; GRANT tenant_0, tenant_1 TO app");
    let howdah = Howdah::with_pool(&cluster, 2);
    python("pytest", &cluster, &howdah, "disable", &["."]);
}

/// Those for which it matters how bytes go to and fro.
#[test]
fn python_programs_under_tls() {
    let certificates = Certificates::new();
    let cluster = certificates
        .cluster("server")
        .conf("max_connections = 200")
        .start();
    let config = Howdah::before(&cluster)
        .set("default_pool_size", 2)
        .set("server_tls_sslmode", "require");
    let howdah = certificates.offered(config, "require").start();
    let programs = [
        "test_cancel.py",
        "test_copy.py",
        "test_pipeline.py",
        "test_vanish.py",
    ];
    python("pytest-tls", &cluster, &howdah, "require", &programs);
}

#[test]
fn node_programs() {
    assert!(
        here().join("node_modules/pg").exists(),
        "no node_modules: run scripts/setup"
    );
    let cluster = Cluster::options().conf("max_connections = 200").start();
    let howdah = Howdah::with_pool(&cluster, 2);
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap"]);
    let mut programs: Vec<PathBuf> = fs::read_dir(here().join("node"))
        .expect("the programs")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    programs.retain(|path| path.to_string_lossy().ends_with(".test.mjs"));
    programs.sort();
    node.args(programs);
    aim(&mut node, &cluster, &howdah);
    let done = run::output(&mut node, LIMIT);
    let said = String::from_utf8_lossy(&done.stdout);
    let total = |name: &str| {
        let line = said.lines().rfind(|line| line.starts_with(&format!("# {name} ")));
        line.and_then(|line| line.split(' ').nth(2))
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    judge("node", &done, total("pass"), total("fail") + total("cancelled"));
}
