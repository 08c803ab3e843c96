//! PgBouncer's `userlist.txt`: a line `"user" "secret"` for each user, where `""` stands for a quote.

use super::secret::Secret;

/// A user's name and secret.
pub(super) type Entry = (String, Option<Secret>);

/// The users of such a file with their secrets; an empty secret is none. Errors come with the number of their line.
pub(super) fn parse(text: &str) -> Vec<Result<Entry, (usize, String)>> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_start()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with([';', '#']))
        .map(|(number, line)| entry(line).map_err(|message| (number, message.to_owned())))
        .collect()
}

/// What follows the secret is left alone, as PgBouncer does.
fn entry(line: &str) -> Result<Entry, &'static str> {
    let (user, rest) = quoted(line).ok_or("a line must begin with a user's name in double quotes")?;
    if user.is_empty() {
        return Err("a user must have a name");
    }
    let (secret, _) = quoted(rest.trim_start())
        .ok_or("after the user's name there must be a secret in double quotes, \"\" for none")?;
    Ok((user, (!secret.is_empty()).then(|| Secret::new(secret))))
}

/// The text in quotes that a line begins with, and the rest of the line.
fn quoted(line: &str) -> Option<(String, &str)> {
    let mut rest = line.strip_prefix('"')?;
    let mut text = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        text += part;
        match after.strip_prefix('"') {
            Some(after) => rest = after,
            None => return Some((text, after)),
        }
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_pgbouncer_writes_them() {
        let text = "; comment\n# too\n\n\"bob\" \"s\"\"ec\"\"ret\" \"ignored\"\r\n  \"a \"\"b\" \"md5abc\"\n\"nobody\" \"\"\n";
        let users: Vec<_> = parse(text).into_iter().map(Result::unwrap).collect();
        let shown: Vec<_> = users
            .iter()
            .map(|(name, secret)| (name.as_str(), secret.as_ref().map(Secret::expose)))
            .collect();
        assert_eq!(
            shown,
            [
                ("bob", Some("s\"ec\"ret")),
                ("a \"b", Some("md5abc")),
                ("nobody", None)
            ]
        );
    }

    #[test]
    fn every_broken_line_is_reported() {
        let faults: Vec<_> = parse("bob secret\n\"ok\" \"ok\"\n\"bob\"\n\"\" \"x\"\n\"bob\" \"open\n")
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert_eq!(
            faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [1, 3, 4, 5]
        );
        assert!(faults[2].1.contains("must have a name"));
    }
}
