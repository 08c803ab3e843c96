//! Connection strings as libpq reads them ("Connection Strings" in PostgreSQL's manual): `keyword=value` and URLs.
//!
//! Messages never repeat a value, since it may be a password, or a part of one.

use super::env::Environment;

/// Keywords and values in the order in which they were written; a later one goes before an earlier one.
pub(super) type Pairs = Vec<(String, String)>;

/// Whether libpq would read this as a URL.
pub(super) fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// Splits a connection string. With `variables`, `${NAME}` is expanded within each value, after splitting, so that
/// no blank, quote or `@` in a password can move the borders.
pub(super) fn parse(text: &str, variables: Option<&Environment>) -> Result<Pairs, String> {
    if is_url(text) {
        return Url { variables }.parse(text);
    }
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let ordinal = pairs.len() + 1;
        let (name, after) = rest
            .split_once('=')
            .filter(|(name, _)| !name.trim_end().contains(char::is_whitespace))
            .ok_or_else(|| format!("word {ordinal} of the connection string has no \"=\" after it"))?;
        let name = name.trim_end();
        if name.is_empty() {
            return Err(format!(
                "word {ordinal} of the connection string has no name before its \"=\""
            ));
        }
        let (value, after) = value(after.trim_start())
            .ok_or_else(|| format!("the quoted value of \"{name}\" has no closing quote"))?;
        let value = match variables {
            Some(variables) => variables
                .expand(&value)
                .map_err(|message| format!("{name}: {message}"))?,
            None => value,
        };
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// One value, and what follows it. In quotes, `\'` and PgBouncer's `''` both stand for a quote.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted)).peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted && letters.next_if(|(_, next)| *next == '\'').is_none() => {
                return Some((value, &text[at + 1..]));
            }
            _ if !quoted && letter.is_whitespace() => return Some((value, &text[at..])),
            _ => value.push(letter),
        }
    }
    (!quoted).then_some((value, ""))
}

struct Url<'a> {
    variables: Option<&'a Environment>,
}

impl Url<'_> {
    /// `postgres://[user[:password]@][host[:port],…][/dbname][?keyword=value&…]`
    fn parse(&self, url: &str) -> Result<Pairs, String> {
        let mut pairs = Vec::new();
        let (_, rest) = url.split_once("://").unwrap_or(("", url));
        let rest = match rest.find(['@', '/']) {
            Some(at) if rest[at..].starts_with('@') => {
                let (user, password) = match rest[..at].split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (&rest[..at], None),
                };
                self.push(&mut pairs, "user", user)?;
                self.push(&mut pairs, "password", password.unwrap_or_default())?;
                &rest[at + 1..]
            }
            _ => rest,
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, dbname) = rest.split_once('/').unwrap_or((rest, ""));
        self.hosts(&mut pairs, hosts)?;
        self.push(&mut pairs, "dbname", dbname)?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter
                .split_once('=')
                .ok_or("a parameter of the URL has no \"=\"".to_owned())?;
            if value.contains('=') {
                return Err(format!(
                    "parameter {name} of the URL has a second \"=\" (write %3D)"
                ));
            }
            // libpq takes JDBC's spelling too.
            let (name, value) = if (name, value) == ("ssl", "true") {
                ("sslmode", "require")
            } else {
                (name, value)
            };
            pairs.push((decode(name)?, self.decode(value)?));
        }
        Ok(pairs)
    }

    fn hosts(&self, pairs: &mut Pairs, written: &str) -> Result<(), String> {
        let mut hosts = Vec::new();
        let mut ports = Vec::new();
        for host in written.split(',') {
            let (host, port) = match host.strip_prefix('[') {
                Some(address) => {
                    let (address, port) = address
                        .split_once(']')
                        .ok_or("the URL has an IPv6 address without \"]\"".to_owned())?;
                    if !port.is_empty() && !port.starts_with(':') {
                        return Err("the URL has something other than a port after \"]\"".to_owned());
                    }
                    (address, port.trim_start_matches(':'))
                }
                None => host.split_once(':').unwrap_or((host, "")),
            };
            hosts.push(self.decode(host)?);
            ports.push(self.decode(port)?);
        }
        if hosts.iter().any(|host| !host.is_empty()) {
            pairs.push(("host".to_owned(), hosts.join(",")));
        }
        if ports.iter().any(|port| !port.is_empty()) {
            pairs.push(("port".to_owned(), ports.join(",")));
        }
        Ok(())
    }

    fn push(&self, pairs: &mut Pairs, name: &str, value: &str) -> Result<(), String> {
        if !value.is_empty() {
            pairs.push((name.to_owned(), self.decode(value)?));
        }
        Ok(())
    }

    fn decode(&self, text: &str) -> Result<String, String> {
        match self.variables {
            Some(variables) => variables.expand_with(text, decode),
            None => decode(text),
        }
    }
}

/// Percent-decoding (RFC 3986), where a zero byte is refused as libpq does.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let byte = after
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or("the URL has a \"%\" that two hexadecimal digits do not follow (write %25)")?;
        if byte == 0 {
            return Err("the URL has a zero byte (%00)".to_owned());
        }
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(byte);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| "the URL has bytes that are not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text, None).unwrap_or_else(|message| panic!("{text}: {message}"))
    }

    fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn keywords_are_split_as_libpq_does() {
        for (text, expected) in [
            ("", &[][..]),
            ("host=a port = 5433", &[("host", "a"), ("port", "5433")]),
            (
                r"password='it\'s \\ it' user=x",
                &[("password", r"it's \ it"), ("user", "x")],
            ),
            (r"password=a\ b user=''", &[("password", "a b"), ("user", "")]),
            ("password='it''s' host=h", &[("password", "it's"), ("host", "h")]),
            ("host= port=1", &[("host", "port=1")]),
            ("options='-c a=b'", &[("options", "-c a=b")]),
        ] {
            assert_eq!(pairs(text), owned(expected), "{text}");
        }
    }

    #[test]
    fn urls_are_split_as_libpq_does() {
        for (url, expected) in [
            ("postgres://", &[][..]),
            ("postgresql:///app", &[("dbname", "app")]),
            (
                "postgres://u:p%40w@db:5433/app?application_name=a%20b",
                &[
                    ("user", "u"),
                    ("password", "p@w"),
                    ("host", "db"),
                    ("port", "5433"),
                    ("dbname", "app"),
                    ("application_name", "a b"),
                ],
            ),
            (
                "postgres://a,b:1,[::1]:2/x",
                &[("host", "a,b,::1"), ("port", ",1,2"), ("dbname", "x")],
            ),
            (
                "postgres://%2Fvar%2Frun/x",
                &[("host", "/var/run"), ("dbname", "x")],
            ),
            (
                "postgres:///x?host=/tmp&port=1",
                &[("dbname", "x"), ("host", "/tmp"), ("port", "1")],
            ),
            (
                "postgres://h?options=-c%20a%3D1",
                &[("host", "h"), ("options", "-c a=1")],
            ),
            (
                "postgres://h/x?ssl=true",
                &[("host", "h"), ("dbname", "x"), ("sslmode", "require")],
            ),
        ] {
            assert_eq!(pairs(url), owned(expected), "{url}");
        }
    }

    #[test]
    fn malformed_strings_are_refused_without_their_secrets() {
        for text in [
            "host=a hunter2",
            "password='hunter2",
            "=hunter2",
            "postgres://u:hunter2%@h/x",
            "postgres://u:hunter2%zz@h/x",
            "postgres://u:hunter2%00@h/x",
            "postgres://u:hunter2%ff@h/x",
            "postgres://u:hunter2@[::1/x",
            "postgres://u:hunter2@[::1]x/x",
            "postgres://h/x?hunter2",
            "postgres://h/x?options=-c%20a=hunter2",
        ] {
            let message = parse(text, None).unwrap_err();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn variables_cannot_move_the_borders_of_a_value() {
        let password = "a b' host=evil @/?%41".to_owned();
        let environment = [("PW".to_owned(), password.clone())].into_iter().collect();
        for text in ["user=u password=${PW} host=h", "postgres://u:${PW}@h"] {
            let expected = owned(&[("user", "u"), ("password", &password), ("host", "h")]);
            assert_eq!(parse(text, Some(&environment)).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_value_survives_quoting(value in any::<String>()) {
            let text = format!("a=1 password='{}' b=2", value.replace('\\', r"\\").replace('\'', r"\'"));
            prop_assert_eq!(pairs(&text)[1].1.clone(), value);
        }

        #[test]
        fn no_text_is_a_panic(text in any::<String>(), url in "postgres://[a%/@:?=&,\\[\\]{}$0-9é]*") {
            let _ = parse(&text, Some(&Environment::default()));
            let _ = parse(&url, Some(&Environment::default()));
        }
    }
}
