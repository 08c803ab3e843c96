//! Environment variables: what `${NAME}` stands for, and a configuration made of nothing else.

use std::collections::BTreeMap;

/// The variables of a process, taken once.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process; those that are not UTF-8 are left out.
    pub(super) fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `HOWDAH_<NAME>` variables, without that prefix.
    pub(super) fn ours(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("HOWDAH_")?, value.as_str())))
            .filter(|(name, _)| !is_foreign(name))
    }

    /// Puts values in the place of `${NAME}`; `$${` stands for `${`.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        self.expand_with(text, |literal| Ok(literal.to_owned()))
    }

    /// The same, where the text between the variables is decoded first, and their values are not.
    pub(super) fn expand_with(
        &self,
        text: &str,
        decode: impl Fn(&str) -> Result<String, String>,
    ) -> Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(literal) = before.strip_suffix('$') {
                expanded += &decode(literal)?;
                expanded += "${";
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or("${ has no closing }")?;
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                return Err(
                    "${…} must hold the name of an environment variable (write $${ for a plain ${)".into(),
                );
            }
            expanded += &decode(before)?;
            expanded += self
                .get(name)
                .ok_or_else(|| format!("environment variable {name} is not set"))?;
            rest = after;
        }
        Ok(expanded + &decode(rest)?)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Kubernetes puts `PORT` and `SERVICE` variables into every container of a namespace that has a service called
/// `howdah`; `BIN` and `TEST_` are for this repository's own tests and benchmarks.
fn is_foreign(name: &str) -> bool {
    ["PORT", "BIN"].contains(&name)
        || ["PORT_", "SERVICE_", "TEST_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        [
            ("PW", "a%20${PW}"),
            ("HOWDAH_WORKERS", "2"),
            ("HOWDAH_PORT_6432_TCP", "tcp://10.0.0.1:6432"),
            ("HOWDAH_SERVICE_HOST", "10.0.0.1"),
            ("HOWDAH_TEST_AGAINST", "postgres"),
        ]
        .map(pair)
        .into_iter()
        .collect()
    }

    #[test]
    fn variables_are_expanded_once() {
        let environment = environment();
        assert_eq!(
            environment.expand("x ${PW}-${HOWDAH_WORKERS}").unwrap(),
            "x a%20${PW}-2"
        );
        assert_eq!(environment.expand("$5 $ {} plain").unwrap(), "$5 $ {} plain");
    }

    #[test]
    fn doubled_dollar_escapes() {
        assert_eq!(environment().expand("$${PW} ${PW}").unwrap(), "${PW} a%20${PW}");
    }

    #[test]
    fn missing_and_malformed_variables_are_faults() {
        let environment = environment();
        assert_eq!(
            environment.expand("${NOPE}").unwrap_err(),
            "environment variable NOPE is not set"
        );
        assert!(environment.expand("${PW").unwrap_err().contains("closing"));
        assert!(environment.expand("${}").is_err());
        assert!(environment.expand("${A-B}").is_err());
    }

    #[test]
    fn variables_of_others_are_not_ours() {
        assert_eq!(environment().ours().collect::<Vec<_>>(), [("WORKERS", "2")]);
    }
}
