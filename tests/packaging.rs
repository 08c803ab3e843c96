//! What `docker/` and the `Dockerfile` say is true of today's howdah.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::daemon::howdah;
use common::run;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The configuration in a `ConfigMap` of Kubernetes: what is indented below its name.
fn embedded(manifest: &str) -> String {
    let (_, rest) = manifest
        .split_once("  howdah.toml: |\n")
        .expect("a configuration");
    let lines = rest
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("    "));
    lines
        .flat_map(|line| [line.trim_start_matches("    "), "\n"])
        .collect()
}

#[test]
fn the_configurations_that_are_packaged_are_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let users: PathBuf = dir.path().join("users.txt");
    fs::write(&users, "\"app\" \"a password\"\n").expect("a file of ours");
    for (name, text) in [
        ("compose", read("docker/howdah.toml")),
        ("sidecar", embedded(&read("docker/kubernetes/sidecar.yaml"))),
        ("shared", embedded(&read("docker/kubernetes/shared.yaml"))),
    ] {
        let users = users.to_str().expect("a plain path");
        let file = dir.path().join(format!("{name}.toml"));
        let text = text.replace("/etc/howdah/secret/users.txt", users);
        fs::write(&file, text).expect("a file of ours");
        let said = run::succeed(
            howdah().arg("check").arg(&file),
            std::time::Duration::from_secs(20),
        );
        assert!(said.contains("1 users, scram-sha-256"), "{name}: {said}");
    }
}

#[test]
fn the_image_needs_no_more_than_is_copied_into_it() {
    let dockerfile = read("Dockerfile");
    let copied: Vec<_> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .collect();
    assert_eq!(
        copied[..2],
        ["Cargo.toml Cargo.lock ./", "src src"],
        "this test knows no other way"
    );
    assert!(
        !dockerfile.contains("no-default-features"),
        "pam and ldap are in it"
    );
    // Cargo looks for targets that name no path, and refuses to build anything without them.
    for kind in ["[[bench]]", "[[example]]", "[[test]]"] {
        for target in read("Cargo.toml").split(kind).skip(1) {
            let own = target.split("\n[").next().unwrap_or_default();
            assert!(own.contains("\npath = "), "{kind}{own}");
        }
    }
    assert!(
        !read("Cargo.toml").contains("[workspace]"),
        "members are not copied"
    );
}

#[test]
fn the_bill_of_materials_lists_what_is_built_in_and_not_what_only_tests_need() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/sbom");
    let mut command = std::process::Command::new(script);
    let bill = run::succeed(
        command.arg("x86_64-unknown-linux-gnu"),
        std::time::Duration::from_secs(60),
    );
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let named = |table: &str| {
        let packages = manifest[table].as_table().expect("a table").keys().cloned();
        packages.collect::<Vec<_>>()
    };
    let lists = |package: &str| bill.contains(&format!("\"purl\": \"pkg:cargo/{package}@"));
    let needed = named("dependencies");
    for package in &needed {
        assert!(lists(package), "{package} is built in");
    }
    let others = named("dev-dependencies");
    for package in others.iter().filter(|package| !needed.contains(package)) {
        assert!(!lists(package), "{package} is for tests");
    }
    assert!(bill.contains("\"alg\": \"SHA-256\"") && bill.contains("\"expression\": \"MIT\""));
}
