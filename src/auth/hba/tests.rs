//! Tables: what is read, what is refused and in which words, and who falls under which rule.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::auth::{IdentMaps, Password};

/// Files in memory.
struct Memory(BTreeMap<PathBuf, &'static str>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok((*text).to_owned())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let inside: Vec<_> = self
            .0
            .keys()
            .filter(|path| path.parent() == Some(directory))
            .cloned()
            .collect();
        if inside.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(inside)
    }
}

fn parse_all(files: &[(&str, &'static str)]) -> Result<Rules, String> {
    let memory = Memory(
        files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), *text))
            .collect(),
    );
    Rules::parse(Path::new("/etc/hba"), &memory).map_err(|faults| faults.to_string())
}

fn parse(text: &'static str) -> Result<Rules, String> {
    parse_all(&[("/etc/hba", text)])
}

fn fault(text: &'static str) -> String {
    let message = parse(text).expect_err(text);
    message
        .strip_prefix("/etc/hba:1: ")
        .unwrap_or(&message)
        .to_owned()
}

fn visitor<'a>(database: &'a str, user: &'a str, origin: Origin) -> Visitor<'a> {
    Visitor {
        database,
        user,
        origin,
        is_physical_replication: false,
    }
}

fn tcp(address: &str) -> Origin {
    Origin::Tcp(address.parse().unwrap())
}

/// The line of the rule that a visitor falls under; 0 for none.
fn line(rules: &Rules, visitor: &Visitor<'_>) -> usize {
    match rules.find(visitor, &Known::default()) {
        Verdict::Rule(rule) => rule.place().line,
        Verdict::None => 0,
        Verdict::Unknown(question) => panic!("{question:?}"),
    }
}

#[test]
fn databases_and_users_are_matched_by_word_name_list_and_expression() {
    let rules = parse(
        "local sales,\"Quoted Name\" alice,bob trust\n\
         local sameuser all peer\n\
         local \"all\" all md5\n\
         local /^db[0-9]+$ \"/^a,b\" trust\n\
         local all \"all\" reject\n\
         local x /ice scram-sha-256\n",
    )
    .unwrap();
    for (database, user, expected) in [
        ("sales", "alice", 1),
        ("sales", "carol", 0),
        ("Quoted Name", "bob", 1),
        ("carol", "carol", 2),
        ("all", "carol", 3),
        ("db17", "a,bc", 4),
        ("db17x", "a,bc", 0),
        ("db17", "xa,b", 0),
        ("anything", "all", 5),
        ("x", "alice", 6),
        ("x", "Alicia", 0),
        ("SALES", "alice", 0),
    ] {
        let found = line(&rules, &visitor(database, user, Origin::Local));
        assert_eq!(found, expected, "{database} {user}");
    }
}

#[test]
fn connections_are_told_apart_by_transport() {
    let rules = parse(
        "hostgssenc all all all trust\n\
         hostssl tls all all scram-sha-256\n\
         hostnossl clear all all trust\n\
         host both all all md5\n\
         hostnogssenc nogss all all md5\n\
         local socket all peer\n",
    )
    .unwrap();
    let address = "10.0.0.1".parse().unwrap();
    for (database, lines) in [
        ("tls", [0, 0, 2]),
        ("clear", [0, 3, 0]),
        ("both", [0, 4, 4]),
        ("nogss", [0, 5, 5]),
        ("socket", [6, 0, 0]),
    ] {
        let origins = [Origin::Local, Origin::Tcp(address), Origin::Tls(address)];
        let found = origins.map(|origin| line(&rules, &visitor(database, "u", origin)));
        assert_eq!(found, lines, "{database}");
    }
}

#[test]
fn addresses_are_matched_by_network() {
    let rules = parse(
        "host a all 10.1.2.3/32 trust\n\
         host b all 10.1.2.0/24 trust\n\
         host c all 10.1.2.0 255.255.255.0 trust\n\
         host d all 0.0.0.0/0 trust\n\
         host e all ::/0 trust\n\
         host f all fe80::/10 trust\n\
         host g all 2001:db8::1 ffff:ffff:: trust\n\
         host h all 10.0.0.5 255.0.0.255 trust\n",
    )
    .unwrap();
    for (database, inside, outside) in [
        ("a", "10.1.2.3", "10.1.2.4"),
        ("b", "10.1.2.255", "10.1.3.0"),
        ("c", "::ffff:10.1.2.7", "10.1.3.0"),
        ("d", "255.255.255.255", "::1"),
        ("e", "::1", "127.0.0.1"),
        ("f", "febf::1", "fec0::1"),
        ("g", "2001:db8:ffff::", "2001:db9::"),
        ("h", "10.9.9.5", "10.9.9.6"),
    ] {
        let found = [inside, outside].map(|address| line(&rules, &visitor(database, "u", tcp(address))) > 0);
        assert_eq!(found, [true, false], "{database}");
    }
}

#[test]
fn what_must_be_looked_up_is_asked_for_only_when_a_rule_needs_it() {
    let rules = parse(
        "host named all web.Example.org trust\n\
         host named all .example.org md5\n\
         host here all samehost trust\n\
         host near all samenet md5\n",
    )
    .unwrap();
    let find = |database, known: &Known| match rules.find(&visitor(database, "u", tcp("10.0.0.9")), known) {
        Verdict::Rule(rule) => rule.place().line.to_string(),
        Verdict::None => "none".to_owned(),
        Verdict::Unknown(question) => format!("{question:?}"),
    };
    assert_eq!(find("other", &Known::default()), "none");
    assert_eq!(find("named", &Known::default()), "Host");
    assert_eq!(find("here", &Known::default()), "Interfaces");
    let named = |name: Option<&str>| Known {
        host: name.map_or(HostName::Unknown, |name| HostName::Is(name.to_owned())),
        interfaces: None,
    };
    assert_eq!(find("named", &named(Some("WEB.example.ORG"))), "1");
    assert_eq!(find("named", &named(Some("db.example.org"))), "2");
    for other in ["example.org", "badexample.org", "web.example.org.evil.net"] {
        assert_eq!(find("named", &named(Some(other))), "none", "{other}");
    }
    assert_eq!(find("named", &named(None)), "none");
    let interface = |address: &str, mask: &str| Known {
        host: HostName::Unasked,
        interfaces: Some(vec![Interface {
            address: address.parse().unwrap(),
            mask: mask.parse().unwrap(),
        }]),
    };
    assert_eq!(find("here", &interface("10.0.0.9", "255.255.255.0")), "3");
    assert_eq!(find("here", &interface("10.0.0.8", "255.255.255.0")), "none");
    assert_eq!(find("near", &interface("10.0.0.8", "255.255.255.0")), "4");
    assert_eq!(find("near", &interface("10.0.1.8", "255.255.255.0")), "none");
    assert_eq!(find("near", &interface("::1", "ffff::")), "none");
}

#[test]
fn replication_has_a_word_of_its_own() {
    let rules = parse(
        "local all all md5\n\
         local \"replication\" all trust\n\
         local replication rep scram-sha-256\n",
    )
    .unwrap();
    let physical = |user| Visitor {
        is_physical_replication: true,
        ..visitor("replication", user, Origin::Local)
    };
    assert_eq!(line(&rules, &physical("rep")), 3);
    assert_eq!(line(&rules, &physical("other")), 0);
    assert_eq!(line(&rules, &visitor("replication", "rep", Origin::Local)), 1);
    let only = parse("local replication all trust\n").unwrap();
    assert_eq!(line(&only, &visitor("replication", "rep", Origin::Local)), 0);
    let quoted = parse("local \"replication\" all trust\n").unwrap();
    assert_eq!(line(&quoted, &physical("rep")), 0);
}

#[test]
fn refusals_have_the_words_of_postgresql() {
    let texts =
        |visitor: Visitor<'_>| [visitor.no_entry(), visitor.rejected()].map(|refusal| refusal.to_string());
    let address = "10.0.0.9".parse().unwrap();
    assert_eq!(
        texts(visitor("d", "u", Origin::Tcp(address))),
        [
            "no pg_hba.conf entry for host \"10.0.0.9\", user \"u\", database \"d\", no encryption (28000)",
            "pg_hba.conf rejects connection for host \"10.0.0.9\", user \"u\", database \"d\", no encryption (28000)",
        ]
    );
    let physical = Visitor {
        is_physical_replication: true,
        ..visitor("d", "u", Origin::Tls(address))
    };
    assert_eq!(
        texts(physical),
        [
            "no pg_hba.conf entry for replication connection from host \"10.0.0.9\", user \"u\", SSL encryption (28000)",
            "pg_hba.conf rejects replication connection for host \"10.0.0.9\", user \"u\", SSL encryption (28000)",
        ]
    );
    assert!(texts(visitor("d", "u", Origin::Local))[0].contains("host \"[local]\", "));
}

/// Lines, each with what is wrong with it.
const BROKEN: &str = r#"
hots all all all trust               -> invalid connection type "hots"
local,host all all trust             -> multiple values specified for connection type
local                                -> end-of-line before database specification
local all                            -> end-of-line before role specification
local all all                        -> end-of-line before authentication method
host all all                         -> end-of-line before IP address specification
host all all 10.0.0.1                -> end-of-line before netmask specification
host all all 10.0.0.1/8,::1/3 trust  -> multiple values specified for IP address specification
host all all 10.0.0.1/33 trust       -> invalid CIDR mask in address "10.0.0.1/33"
host all all 10.0.0.1/ trust         -> invalid CIDR mask in address "10.0.0.1/"
host all all ::1/129 trust           -> invalid CIDR mask in address "::1/129"
host all all 10.0.0.1 trust          -> invalid IP mask "trust"
host all all 10.0.0.1 ffff:: trust   -> IP address and mask do not match
host all all 10.0.0 trust            -> invalid IP address "10.0.0"
host all all 10.0.0.256/32 trust     -> invalid IP address "10.0.0.256"
host all all fe80::1::/64 trust      -> invalid IP address "fe80::1::"
host all all web/8 trust             -> specifying both host name and CIDR mask is invalid: "web/8"
local all all trsut                  -> invalid authentication method "trsut"
local all all md5,trust              -> multiple values specified for authentication method
host all all all gss                 -> authentication method "gss" is not supported by howdah
host all all all peer                -> peer authentication is only supported on local sockets
host all all all ident               -> authentication method "ident" is supported only on local sockets, where it means peer
host all all all cert                -> cert authentication is only supported on hostssl connections
local all all trust nonsense         -> authentication option not in name=value format: nonsense
host all all all ldap ldapbindpasswd=a b -> authentication option not in name=value format
local all all trust a=b              -> unrecognized authentication option name: "a"
local all all trust map=m            -> authentication option "map" is only valid for authentication methods peer and cert
local all all md5 ldaptls=1          -> authentication option "ldaptls" is only valid for authentication method ldap
local all all md5 pamservice=x       -> authentication option "pamservice" is only valid for authentication method pam
host all all all md5 clientcert=verify-ca    -> clientcert can only be configured for "hostssl" rows
hostssl all all all md5 clientcert=1         -> invalid value for clientcert: "1"
hostssl all all all cert clientcert=verify-ca -> clientcert only accepts "verify-full" when using "cert" authentication
hostssl all all all cert clientname=cn       -> invalid value for clientname: "cn"
local samerole all trust             -> "samerole" is not supported: howdah does not know the members of roles
local all +admins trust              -> "+admins" is not supported: howdah does not know the members of roles
local all "/(" trust                 -> invalid regular expression "(": unclosed group
"#;

#[test]
fn broken_lines_are_named() {
    let mut count = 0;
    for (text, expected) in BROKEN.lines().filter_map(|line| line.split_once("->")) {
        assert_eq!(fault(text.trim()), expected.trim(), "{text}");
        count += 1;
    }
    assert_eq!(count, 36);
    for empty in ["", "# local all all trust\n"] {
        assert_eq!(fault(empty), "/etc/hba: there is no rule in it");
    }
}

#[test]
fn every_broken_line_is_reported() {
    let faults =
        parse("local all all trust\n\nlocl all all trust\nlocal \\\nall all \\\n bad\nhost\n").unwrap_err();
    let lines: Vec<_> = faults.lines().collect();
    assert_eq!(
        lines,
        [
            "/etc/hba:3: invalid connection type \"locl\"",
            "/etc/hba:4: invalid authentication method \"bad\"",
            "/etc/hba:7: end-of-line before database specification",
        ]
    );
}

#[test]
fn options_are_kept_with_their_rule() {
    let rules = parse(
        "local all all peer map=\"my map\"\n\
         hostssl all all all cert clientname=DN map=m\n\
         hostssl all all all scram-sha-256 clientcert=verify-ca\n\
         hostssl all all all md5 clientcert=verify-full\n\
         host all all all pam pamservice=sales pam_use_hostname=1\n\
         local all all ident\n",
    )
    .unwrap();
    let shown: Vec<_> = rules
        .iter()
        .map(|rule| {
            (
                rule.method.clone(),
                rule.certificate,
                rule.name_of,
                rule.map.as_deref(),
            )
        })
        .collect();
    let (cn, dn) = (CertificateName::CommonName, CertificateName::DistinguishedName);
    let pam = Pam {
        service: Some("sales".to_owned()),
        use_hostname: true,
    };
    assert_eq!(
        shown,
        [
            (Method::Peer, Certificate::Any, cn, Some("my map")),
            (Method::Cert, Certificate::Named, dn, Some("m")),
            (Method::Scram, Certificate::Valid, cn, None),
            (Method::Md5, Certificate::Named, cn, None),
            (Method::Pam(pam), Certificate::Any, cn, None),
            (Method::Peer, Certificate::Any, cn, None),
        ]
    );
}

#[test]
fn files_bring_in_files() {
    let rules = parse_all(&[
        (
            "/etc/hba",
            "include more\ninclude_if_exists nothing\ninclude_dir \"conf d\"\nlocal @dbs,last @/abs/users trust\n",
        ),
        ("/etc/more", "local more all trust\n"),
        ("/etc/conf d/b.conf", "local b all trust\n"),
        ("/etc/conf d/a.conf", "local a all trust\ninclude deeper\n"),
        ("/etc/conf d/deeper", "local deeper all trust\n"),
        ("/etc/conf d/.hidden.conf", "nonsense\n"),
        ("/etc/conf d/readme", "nonsense\n"),
        ("/etc/dbs", "one two # three\n@inner\n"),
        ("/etc/inner", "\"in ner\"\n"),
        ("/abs/users", "x,y\n"),
    ])
    .unwrap();
    let places: Vec<_> = rules.iter().map(|rule| rule.place().to_string()).collect();
    assert_eq!(
        places,
        [
            "/etc/more:1",
            "/etc/conf d/a.conf:1",
            "/etc/conf d/deeper:1",
            "/etc/conf d/b.conf:1",
            "/etc/hba:4"
        ]
    );
    for (database, expected) in [
        ("one", 4),
        ("two", 4),
        ("three", 0),
        ("in ner", 4),
        ("last", 4),
        ("other", 0),
    ] {
        assert_eq!(
            line(&rules, &visitor(database, "y", Origin::Local)),
            expected,
            "{database}"
        );
    }
    let missing = "local @none all trust\ninclude none\ninclude_dir none\nlocal @broken all trust\n";
    let faults = parse_all(&[("/etc/hba", missing), ("/etc/broken", "a\n@none\n")]).unwrap_err();
    let lines: Vec<_> = faults.lines().collect();
    assert_eq!(lines.len(), 4, "{faults}");
    assert!(
        lines[0].starts_with("/etc/hba:1: could not open file \"/etc/none\": "),
        "{faults}"
    );
    assert!(
        lines[2].starts_with("/etc/hba:3: could not open directory \"/etc/none\": "),
        "{faults}"
    );
    assert!(
        lines[3].starts_with("/etc/hba:4: /etc/broken:2: could not open file"),
        "{faults}"
    );
}

#[test]
fn files_that_include_each_other_end() {
    let faults = parse_all(&[("/etc/hba", "include hba\n")]).unwrap_err();
    assert!(faults.contains("maximum nesting depth exceeded"), "{faults}");
    let many = "include hba\n".repeat(9);
    let faults = parse_all(&[("/etc/hba", many.leak())]).unwrap_err();
    assert_eq!(
        faults.matches("maximum nesting depth exceeded").count(),
        1,
        "{faults}"
    );
    // Nor do those go on for ever that only include the next one, each many times.
    let names = [
        "/etc/hba", "/etc/b", "/etc/c", "/etc/d", "/etc/e", "/etc/f", "/etc/g",
    ];
    let next = |name: &str| -> &'static str { format!("include {name}\n").repeat(9).leak() };
    let texts = names.iter().skip(1).map(|name| next(name));
    let files: Vec<(&str, &str)> = names.iter().copied().zip(texts).collect();
    let all = [&files[..], &[("/etc/g", "local all all trust\n")]].concat();
    let faults = parse_all(&all).unwrap_err();
    assert!(faults.contains("more than 100000 lines"), "no end in sight");
    let faults = parse_all(&[("/etc/hba", "local @hba all trust\n")]).unwrap_err();
    assert!(faults.contains("maximum nesting depth exceeded"), "{faults}");
    assert!(
        parse_all(&[])
            .unwrap_err()
            .starts_with("/etc/hba: could not open file")
    );
}

fn ldap(options: &str) -> Result<Ldap, String> {
    Ldap::parse(options)
}

#[test]
fn ldap_options_and_urls_say_the_same() {
    let by_options =
        ldap("ldapserver=h ldapport=1389 ldapbasedn=\"dc=a, dc=b\" ldapsearchattribute=mail").unwrap();
    let by_url = ldap("ldapurl=\"ldap://h:1389/dc=a,%20dc=b?mail?sub\"").unwrap();
    assert_eq!(by_options, by_url);
    let filter =
        ldap("ldapurl=ldaps://[::1]/dc=a??one?(x=$username) ldapbinddn=r ldapbindpasswd=pw").unwrap();
    assert_eq!(
        (filter.servers.as_slice(), filter.port()),
        (["::1".to_owned()].as_slice(), 636)
    );
    assert_eq!(filter.scheme, Scheme::Ldaps);
    let Bind::Search(search) = &filter.bind else {
        panic!("{filter:?}")
    };
    assert_eq!(
        (search.scope, search.filter_for("a*)(b")),
        (Scope::One, "(x=a\\2a\\29\\28b)".to_owned())
    );
    assert_eq!(search.reader, ("r".to_owned(), Password::new(b"pw".as_slice())));
    assert!(!format!("{filter:?}").contains("pw"), "{filter:?}");
    let base = ldap("ldapurl=ldap://h/dc=a").unwrap();
    let Bind::Search(search) = &base.bind else {
        panic!("{base:?}")
    };
    assert_eq!(
        (search.scope, search.filter_for("u")),
        (Scope::Base, "(uid=u)".to_owned())
    );
    let several = ldap("ldapserver=\"a b\" ldaptls=1 ldapsuffix=@x").unwrap();
    assert_eq!(
        (several.servers.len(), several.scheme, several.port()),
        (2, Scheme::StartTls, 389)
    );
}

/// Options, each with a part of what is wrong with them.
const SENSELESS: &str = r#"
ldapprefix=a                                 -> requires argument "ldapserver"
ldapserver=h                                 -> requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix"
ldapserver=h ldapprefix=a ldapbasedn=b       -> cannot mix
ldapserver=h ldapsuffix=a ldapsearchfilter=b -> cannot mix
ldapserver=h ldapbasedn=a ldapsearchfilter=b ldapsearchattribute=c -> together with ldapsearchfilter
ldapserver=h ldapbasedn=a ldapsearchfilter="(b=" -> invalid LDAP search filter or attribute: "(b="
ldapserver=h ldapbasedn=a ldapsearchattribute="b)(c" -> invalid LDAP search filter or attribute: "b)(c"
ldapserver=h ldapprefix=a ldapport=0         -> invalid LDAP port number: "0"
ldapserver=h ldapprefix=a ldapscheme=http    -> invalid ldapscheme value: "http"
ldapserver=h ldapprefix=a ldapscheme=ldaps ldaptls=1 -> together with ldaps
ldapurl=http://h/x                           -> unsupported LDAP URL scheme: http
ldapurl=ldap:h                               -> could not parse LDAP URL
ldapurl=ldap://h/%zz                         -> could not parse LDAP URL
ldapurl=ldap://h/x?a?deep                    -> could not parse LDAP URL
ldapserver=h ldapsecret=b                    -> unrecognized authentication option name: "ldapsecret"
nonsense                                     -> not in name=value format
"#;

#[test]
fn ldap_options_that_make_no_sense_are_refused() {
    let mut count = 0;
    for (options, part) in SENSELESS.lines().filter_map(|line| line.split_once("->")) {
        let message = ldap(options).expect_err(options);
        assert!(message.contains(part.trim()), "{options}: {message}");
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn names_to_bind_with_are_escaped() {
    let simple = |options: &str| match ldap(options).unwrap().bind {
        Bind::Simple(simple) => simple,
        Bind::Search(search) => panic!("{search:?}"),
    };
    let dn = simple("ldapserver=h ldapprefix=\"cn=\" ldapsuffix=\",dc=x\"");
    for (user, expected) in [
        ("bob", "cn=bob,dc=x"),
        ("bob,ou=admins", "cn=bob\\,ou\\=admins,dc=x"),
        (" #a+b\"c\\<>; ", "cn=\\ \\#a\\+b\\\"c\\\\\\<\\>\\;\\ ,dc=x"),
        ("a b\n", "cn=a b\\0a,dc=x"),
        ("jörg", "cn=jörg,dc=x"),
    ] {
        assert_eq!(dn.name_of(user).as_deref(), Some(expected));
    }
    let address = simple("ldapserver=h ldapsuffix=\"@example.org\"");
    assert_eq!(address.name_of("bob").as_deref(), Some("bob@example.org"));
    for user in ["a,b", "DOMAIN\\bob", "cn=bob", "a/b", "a\0b"] {
        assert_eq!(address.name_of(user), None, "{user}");
    }
}

proptest! {
    #[test]
    fn any_text_never_panics(text in "(\\PC|[\"@,/#\\\\ \n]|host|local|all|trust|ldap|/[*(|)\\[\\]{}]+){0,12}") {
        let memory = Memory(BTreeMap::from([(PathBuf::from("/etc/hba"), text.clone().leak() as &'static str)]));
        let path = Path::new("/etc/hba");
        let _ = (Rules::parse(path, &memory), IdentMaps::parse(path, &memory), Ldap::parse(&text));
    }
}
