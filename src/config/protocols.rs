//! Versions of TLS, in the words of PgBouncer.

use super::value::{Kind, Raw};

/// Which versions of TLS may be spoken, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

/// Words such as `secure` or `tlsv1.3`, separated by commas or colons; one with `!` before it takes away.
pub(super) struct Protocols;

impl Kind for Protocols {
    type Value = TlsVersions;
    const WORD: &'static str = "protocols";
    const WANTED: &'static str = "secure, all, tlsv1.2, tlsv1.3 or a list of these";

    fn read(raw: &Raw) -> Result<TlsVersions, String> {
        let joined;
        let text = match raw {
            Raw::Text(text) => text,
            Raw::List(words) => {
                joined = words.join(",");
                &joined
            }
            _ => return Err(raw.is_not(Self::WANTED)),
        };
        let mut versions = TlsVersions {
            tls12: false,
            tls13: false,
        };
        let mut is_old = false;
        for word in text
            .split([',', ':'])
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let (word, wanted) = match word.strip_prefix('!') {
                Some(word) => (word, false),
                None => (word, true),
            };
            match word.to_ascii_lowercase().as_str() {
                "secure" | "default" | "all" | "legacy" | "tlsv1" => {
                    (versions.tls12, versions.tls13) = (wanted, wanted);
                }
                "tlsv1.2" => versions.tls12 = wanted,
                "tlsv1.3" => versions.tls13 = wanted,
                // Known to PgBouncer, and unsafe.
                "tlsv1.0" | "tlsv1.1" => is_old = true,
                _ => return Err(raw.is_not(Self::WANTED)),
            }
        }
        match versions {
            TlsVersions {
                tls12: false,
                tls13: false,
            } if is_old => Err("TLS before 1.2 is unsafe and cannot be had".to_owned()),
            TlsVersions {
                tls12: false,
                tls13: false,
            } => Err(raw.is_not(Self::WANTED)),
            versions => Ok(versions),
        }
    }

    fn show(value: &TlsVersions) -> String {
        match value {
            TlsVersions { tls12: false, .. } => "tlsv1.3",
            TlsVersions { tls13: false, .. } => "tlsv1.2",
            _ => "secure",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        Protocols::read(&Raw::text(text)).map(|versions| Protocols::show(&versions))
    }

    #[test]
    fn words_of_pgbouncer_are_understood() {
        for (text, versions) in [
            ("secure", "secure"),
            ("all", "secure"),
            ("legacy", "secure"),
            ("tlsv1.0, tlsv1.2", "tlsv1.2"),
            ("TLSv1.2:tlsv1.3", "secure"),
            ("all,!tlsv1.2", "tlsv1.3"),
            ("secure:!tlsv1.3", "tlsv1.2"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(versions), "{text}");
        }
        let both = Raw::List(vec!["tlsv1.2".to_owned(), "tlsv1.3".to_owned()]);
        assert_eq!(
            Protocols::read(&both)
                .map(|both| Protocols::show(&both))
                .as_deref(),
            Ok("secure")
        );
    }

    #[test]
    fn nothing_at_all_and_what_is_unsafe_are_refused() {
        for text in ["", "!secure", "ssl", "tlsv1.4"] {
            assert!(shown(text).unwrap_err().contains("is not secure, all"), "{text}");
        }
        assert_eq!(
            shown("tlsv1.0,tlsv1.1").unwrap_err(),
            "TLS before 1.2 is unsafe and cannot be had"
        );
    }
}
