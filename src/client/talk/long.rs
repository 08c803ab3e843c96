//! A query that is too long to be read is streamed, and looked at in passing: which custom settings may it set?
//!
//! All else that it leaves behind the server tells when it is asked, but custom settings are in no list, so their names are
//! needed. They stand behind SET or `set_config`, wherever that is in the text; what is no setting's name costs a question.

use crate::sql::dotted_names;

/// How far behind the word a name is looked for, in bytes.
const WINDOW: usize = 128;
const WORD: &[u8] = b"set";

/// What has passed.
#[derive(Debug, Default)]
pub(super) struct Long {
    /// The end of it, of which the rest is still to come.
    tail: Vec<u8>,
}

impl Long {
    /// The names in the next part; `is_end`: in the last one.
    pub(super) fn read(&mut self, part: &[u8], is_end: bool) -> Vec<Box<[u8]>> {
        let mut names = Vec::new();
        self.tail.extend_from_slice(part);
        // A word with less than its window behind it is looked at when that has come.
        let left = if is_end { 0 } else { WINDOW };
        let end = self.tail.len().saturating_sub(left);
        look(&self.tail, end, &mut names);
        self.tail.drain(..end);
        names
    }
}

/// The names behind words that begin in the text before `end`.
fn look(text: &[u8], end: usize, names: &mut Vec<Box<[u8]>>) {
    let before = text.get(..end).unwrap_or_default();
    for at in memchr::memchr2_iter(b's', b'S', before) {
        let window = text.get(at..text.len().min(at + WINDOW)).unwrap_or_default();
        let is_it = window
            .get(..WORD.len())
            .is_some_and(|word| word.eq_ignore_ascii_case(WORD));
        let goes_on = window.get(WORD.len()).is_some_and(u8::is_ascii_alphanumeric);
        if is_it && !goes_on {
            names.extend(dotted_names(window));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parts: &[&[u8]]) -> Vec<String> {
        let mut long = Long::default();
        let mut all: Vec<String> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let names = long.read(part, at + 1 == parts.len());
            all.extend(
                names
                    .iter()
                    .map(|name| String::from_utf8_lossy(name).into_owned()),
            );
        }
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn names_are_found_behind_the_words_however_the_text_is_cut() {
        let text = [
            b"INSERT INTO t VALUES ('a.b, sets c.d')".as_slice(),
            &b" ".repeat(300),
            b";SET app.one = 'x.y'",
            &b" ".repeat(300),
            b"; select Set_Config('App.Two', '1', false);set app.three = 3",
        ]
        .concat();
        let wanted = ["app.one", "app.three", "app.two", "x.y"];
        assert_eq!(found(&[&text]), wanted);
        for size in [1, 7, 100, 127, 128, 129, 200] {
            let parts: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(found(&parts), wanted, "{size}");
        }
        for cut in 0..text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(found(&[first, second]), wanted, "{cut}");
        }
    }
}
