//! `pg_hba.conf` and `pg_ident.conf`: howdah's reading of them beside PostgreSQL's own.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use common::Cluster;
use howdah::auth::hba::{Known, Origin, Rules, Verdict, Visitor};
use howdah::auth::{Files, IdentMaps};

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }
}

/// Lines that every PostgreSQL judges as howdah does.
const RULES: &str = r#"
local all all trust
local all all peer map=m
local all all ident
local all all peer map
host all all 10.0.0.1/32 md5
host all all 10.0.0.1/33 md5
host all all 10.0.0.1/ md5
host all all 10.0.0.1/8x md5
host all all 10.0.0.1 255.0.0.0 md5
host all all 10.0.0.1 255.0.0 md5x
host all all 10.0.0.1 ffff:: md5
host all all 10.0.0.1 md5
host all all 10.0.0.1
host all all ::1/128 md5
host all all ::1/129 md5
host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff md5
host all all ::ffff:10.0.0.1/100 md5
host all all 10.0.0.256/32 md5
host all all web.example.org md5
host all all .example.org md5
host all all web.example.org/32 md5
host all all samehost,samenet md5
host all all samehost md5
host all all "samehost" md5
host all all samenet reject
host all,replication,sameuser a,"b c",all all scram-sha-256
host all all all trust # comment
host all all all trust#comment
host all all all "trust"
host all all all trust extra
host all all all trust extra=1
host all all all trust map=x
host all all all md5,trust
host all all all peer
host all all all cert
host all all all reject clientcert=verify-ca
hostssl all all all md5 clientcert=verify-ca
hostssl all all all md5 clientcert=verify-full
hostssl all all all cert
hostssl all all all cert map=m clientname=DN
hostssl all all all cert clientcert=verify-ca
hostnossl all all all cert
hostnossl all all all password
hosts all all all trust
HOST all all all trust
host all all all Trust
local,host all all all trust
local
local all
local all all
"local" "all" "all" "trust"
local a,,b ,c all trust
local all all, bob trust
local all "open trust
local all ""  trust
host all all all pam
host all all all pam pamservice=x pam_use_hostname=1
host all all all md5 pamservice=x
host all all all ldap ldapserver=h ldapprefix=a
host all all all ldap ldapserver=h ldapprefix=a ldapsuffix="b, c"
host all all all ldap ldapserver=h ldapprefix=a ldapbasedn=b
host all all all ldap ldapserver=h ldapbasedn=b ldapsearchattribute=c
host all all all ldap ldapserver=h ldapbasedn=b ldapsearchfilter=(c=$username)
host all all all ldap ldapserver=h ldapbasedn=b ldapsearchfilter=(c=$username) ldapsearchattribute=d
host all all all ldap ldapserver=h
host all all all ldap ldapserver=h ldapprefix=a ldapport=0
host all all all ldap ldapserver=h ldapprefix=a ldapport=390 ldaptls=1
host all all all ldap ldapurl="ldap://h/dc=x?uid?sub"
host all all all ldap ldapurl="ldaps://h:6360/dc=x?uid?sub?(a=b)" ldapbinddn=r
host all all all ldap ldapurl="http://h/dc=x?uid?sub"
host all all all ldap ldapurl="ldap://h/dc=x?uid?deep"
host all all all ldap ldapserver=h ldapprefix=a ldapfoo=1
host all all all md5 ldapserver=h
host all all all nonsense
local \
all all \
trust
local \
all all \
nonsense
local @names all trust
local @missing all trust
local all @names,b trust
"#;

/// Lines that PostgreSQL understands from 16 on.
const NEW_RULES: &str = r#"
local /^db\d{2,4}$ all trust
local "/^a,b" /x trust
local /( all trust
local all /[a trust
local all /a{2 trust
local all /a{256} trust
local all /*a trust
local all /a** trust
local all /^* trust
local all /a|* trust
local all /\ trust
local all /[[:alpha:]] trust
local all /[[:nonsense:]] trust
local all /[b-a] trust
local all /a{3,2} trust
include names.conf
include_if_exists missing
include missing
include_dir missing
include_dir rules.d
local @deep all trust
"#;

const MAPS: &str = r#"
m a b
m a
m
m a,b c
m a b,c
m a b c d # e
m "a b" "c"
m /^(.*)@x\.org$ \1
m /^(.*$ \1
m /a b
m a all
m /[ b
"#;

/// The lines of a file that are wrong, as PostgreSQL's view of it says.
fn judged(cluster: &Cluster, view: &str) -> BTreeMap<usize, String> {
    let sql = format!("SELECT line_number, error FROM {view} WHERE error IS NOT NULL");
    let rows = cluster.sql_in("postgres", &sql);
    let row = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().flatten();
        let line = row.next()?.parse().ok()?;
        Some((line, row.next()?))
    };
    rows.into_iter()
        .filter_map(row)
        // A matter of the server's settings and not of the file.
        .filter(|(_, error)| !error.contains("SSL is disabled"))
        .collect()
}

/// The lines of the file that howdah's complaints are about.
fn complained(path: &Path, faults: &str) -> BTreeMap<usize, String> {
    let prefix = format!("{}:", path.display());
    let fault = |fault: &str| {
        let (line, message) = fault.strip_prefix(&prefix)?.split_once(": ")?;
        Some((line.parse().ok()?, message.to_owned()))
    };
    faults.lines().filter_map(fault).collect()
}

fn assert_alike(text: &str, theirs: &BTreeMap<usize, String>, ours: &BTreeMap<usize, String>) {
    let lines: BTreeSet<_> = theirs.keys().chain(ours.keys()).copied().collect();
    let differing: Vec<_> = lines
        .into_iter()
        .filter(|line| theirs.contains_key(line) != ours.contains_key(line))
        .map(|line| {
            let text = text.lines().nth(line - 1).unwrap_or_default();
            format!(
                "{text:?}: PostgreSQL {:?}, howdah {:?}",
                theirs.get(&line),
                ours.get(&line)
            )
        })
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(theirs.len() > 2, "PostgreSQL has hardly complained: {theirs:?}");
}

fn rules_are_judged_alike(cluster: &Cluster, text: &str) {
    let data = cluster.data_dir();
    fs::create_dir_all(data.join("rules.d")).expect("a directory of ours");
    for (name, text) in [
        ("names", "a b # c\n\"d e\", f\n"),
        ("names.conf", "local names all trust\n"),
        ("rules.d/a.conf", "local a all trust\n"),
        ("deep", "@deep\n"),
        ("pg_hba.conf", text),
    ] {
        cluster.write(name, text);
    }
    let path = data.join("pg_hba.conf");
    let faults = Rules::parse(&path, &Disk)
        .expect_err("there are broken lines")
        .to_string();
    let theirs = judged(cluster, "pg_hba_file_rules");
    assert_alike(text, &theirs, &complained(&path, &faults));
}

#[test]
fn rules_are_judged_as_postgresql_judges_them() {
    rules_are_judged_alike(&Cluster::start(), RULES);
}

#[test]
fn newer_rules_are_judged_as_postgresql_judges_them() {
    rules_are_judged_alike(&Cluster::version(18), NEW_RULES);
}

#[test]
fn maps_are_judged_as_postgresql_judges_them() {
    let cluster = Cluster::version(18);
    cluster.write("pg_ident.conf", MAPS);
    let path = cluster.data_dir().join("pg_ident.conf");
    let faults = IdentMaps::parse(&path, &Disk)
        .expect_err("there are broken lines")
        .to_string();
    let theirs = judged(&cluster, "pg_ident_file_mappings");
    assert_alike(MAPS, &theirs, &complained(&path, &faults));
}

/// Expressions, and texts to try them on.
const EXPRESSIONS: [&str; 24] = [
    "^db[0-9]{2,4}$",
    r"^\d+$",
    r"^\w+$",
    r"^\s",
    r"\S\D\W",
    "^[]a]+$",
    "^[^]a]+$",
    "^[a-c-]+$",
    "^[[a]b$",
    "^[a&&b]+$",
    "^[[:alpha:]_]+$",
    "^a{,2}$",
    "^(ab|cd)(?:x)?$",
    r"\Aa\.b\Z",
    "^.$",
    "a|b|",
    "^(a|ab)(c|bcd)$",
    "x*?y",
    r"a\-b",
    "a$b",
    "^",
    "[.]",
    r"[\d.]+x",
    "ab{2}c",
];
const TEXTS: [&str; 28] = [
    "db12", "db12345", "5", "a_1", " a", "a b-", "]a", "b", "b-", "[b", "[[a]b", "&", "abc", "ä", "a{,2}",
    "aa", "cdx", "a.b", "axb", "ab", "abcd", "xxy", "a-b", "a$b", "1.2x", "abbc", "\u{665}", "CD",
];

#[test]
fn expressions_mean_what_they_mean_to_postgresql() {
    let cluster = Cluster::version(18);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pg_hba.conf");
    for expression in EXPRESSIONS {
        fs::write(&path, format!("local all \"/{expression}\" trust\n")).expect("a file of ours");
        let rules = Rules::parse(&path, &Disk).expect("a sound rule");
        for user in TEXTS {
            let visitor = Visitor {
                database: "d",
                user,
                origin: Origin::Local,
                is_physical_replication: false,
            };
            let ours = matches!(rules.find(&visitor, &Known::default()), Verdict::Rule(_));
            let theirs = cluster.value(&format!("SELECT '{user}' COLLATE \"C\" ~ '{expression}'"));
            assert_eq!(ours, theirs == "t", "{user:?} ~ {expression:?}");
        }
    }
}

/// The block of the document that begins with this line.
fn example<'a>(document: &'a str, begin: &str) -> &'a str {
    let start = document.find(begin).expect("the example is there");
    let block = &document[start..];
    &block[..block.find("```").expect("its end")]
}

#[test]
fn the_examples_of_the_documentation_are_sound() {
    let document = fs::read_to_string("docs/authentication.md").expect("the document");
    let dir = tempfile::tempdir().expect("a directory");
    let (rules, maps) = (dir.path().join("pg_hba.conf"), dir.path().join("pg_ident.conf"));
    fs::write(&rules, example(&document, "# type ")).expect("a file of ours");
    fs::write(&maps, example(&document, "people     root")).expect("a file of ours");
    let maps = IdentMaps::parse(&maps, &Disk).expect("sound maps");
    let rules = Rules::parse(&rules, &Disk).expect("sound rules");
    assert_eq!(rules.len(), 6);
    for map in rules.iter().filter_map(|rule| rule.map.as_deref()) {
        assert!(maps.has(map), "{map}");
    }
    assert!(maps.allow(Some("people"), "ann-admin", "ann"));
    assert!(maps.allow(Some("subjects"), "CN=billing,O=Example", "svc_billing"));
}
