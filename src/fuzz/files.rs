//! Files that people write.

use std::path::Path;

use super::auth::OneFile;
use crate::auth::IdentMaps;
use crate::auth::hba::{HostName, Known, Origin, Question, Rules, Verdict, Visitor};

/// A text from bytes, so that no input is lost for a letter.
pub(super) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// Rules for logins, and the questions that they raise about visitors.
pub fn hba(data: &[u8]) {
    let text = text(data);
    match Rules::parse(Path::new("main"), &OneFile::new(&text)) {
        Err(faults) => assert!(!faults.to_string().is_empty()),
        Ok(rules) => {
            assert!(!rules.is_empty());
            let address = [10, 1, 2, 3].into();
            for origin in [Origin::Local, Origin::Tcp(address), Origin::Tls(address)] {
                for (user, is_physical_replication) in [("app", false), ("bob", true)] {
                    visit(
                        &rules,
                        &Visitor {
                            database: "app",
                            user,
                            origin,
                            is_physical_replication,
                        },
                    );
                }
            }
        }
    }
}

/// Every question is asked once, and there is an end to them.
fn visit(rules: &Rules, visitor: &Visitor<'_>) {
    let mut known = Known::default();
    for _ in 0..3 {
        match rules.find(visitor, &known) {
            Verdict::Rule(rule) => {
                assert!(!rule.method.as_str().is_empty() && !rule.place().to_string().is_empty());
                return;
            }
            Verdict::None => return,
            Verdict::Unknown(Question::Interfaces) => {
                assert!(known.interfaces.replace(Vec::new()).is_none());
            }
            Verdict::Unknown(Question::Host) => {
                assert_eq!(known.host, HostName::Unasked);
                known.host = HostName::Is("host.example.com".to_owned());
            }
        }
    }
    panic!("it asks and asks");
}

/// User name maps.
pub fn ident(data: &[u8]) {
    let text = text(data);
    match IdentMaps::parse(Path::new("main"), &OneFile::new(&text)) {
        Err(faults) => assert!(!faults.to_string().is_empty()),
        Ok(maps) => {
            for outside in ["bob", "bob@example.com", ""] {
                let allowed = maps.allow(Some("map"), outside, "bob");
                assert!(
                    !allowed || maps.has("map"),
                    "a map that is not there lets nobody in"
                );
                assert_eq!(maps.allow(None, outside, "bob"), outside == "bob");
            }
        }
    }
}

/// Connection strings.
pub fn conninfo(data: &[u8]) {
    crate::config::fuzz::connection_string(&text(data));
}

/// Lists of users.
pub fn userlist(data: &[u8]) {
    crate::config::fuzz::list_of_users(&text(data));
}
