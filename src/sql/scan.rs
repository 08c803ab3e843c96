//! How far a token reaches. Each function is given a text that begins with the token and returns a length in bytes;
//! `None` where the text ends before the token does.

/// What PostgreSQL takes for blank (the vertical tab since version 16).
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(super) fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

pub(super) fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&byte)
}

/// The length of the run of such bytes that the text begins with.
pub(super) fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !belongs(*byte)).unwrap_or(text.len())
}

/// The text from its first byte that is not blank.
pub(super) fn skip_spaces(text: &[u8]) -> &[u8] {
    text.get(run(text, is_space)..).unwrap_or_default()
}

/// `-- …`, without the line end.
pub(super) fn line_comment(text: &[u8]) -> usize {
    memchr::memchr2(b'\n', b'\r', text).unwrap_or(text.len())
}

/// `/* … */`, with comments nested in it.
pub(super) fn block_comment(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0_usize;
    loop {
        let rest = text.get(at..)?;
        match rest {
            [b'/', b'*', ..] => depth = depth.saturating_add(1),
            [b'*', b'/', ..] => depth = depth.saturating_sub(1),
            _ => {
                // Never the first byte: it may be a lone `*` or `/`.
                let step = memchr::memchr2(b'/', b'*', rest.get(1..)?)?;
                at = at.saturating_add(step).saturating_add(1);
                continue;
            }
        }
        at = at.saturating_add(2);
        if depth == 0 {
            return Some(at);
        }
    }
}

/// `"…"` or `'…'` without backslashes; a doubled quote stands for one.
pub(super) fn quoted(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1_usize;
    loop {
        let step = memchr::memchr(quote, text.get(at..)?)?;
        at = at.saturating_add(step).saturating_add(1);
        if text.get(at) != Some(&quote) {
            return Some(at);
        }
        at = at.saturating_add(1);
    }
}

/// `'…'` in which a backslash takes away the meaning of the next byte.
fn escaped(text: &[u8]) -> Option<usize> {
    let mut at = 1_usize;
    loop {
        let step = memchr::memchr2(b'\'', b'\\', text.get(at..)?)?;
        at = at.saturating_add(step);
        match text.get(at..)? {
            [b'\\', _, ..] | [b'\'', b'\'', ..] => at = at.saturating_add(2),
            [b'\'', ..] => return Some(at.saturating_add(1)),
            _ => return None,
        }
    }
}

/// A string and what continues it: another one, with nothing between but blanks, line comments and at least one line
/// end. A continuation has no prefix of its own and is read as its beginning was.
pub(super) fn string(text: &[u8], backslashes: bool) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let rest = text.get(at..)?;
        let len = if backslashes {
            escaped(rest)
        } else {
            quoted(rest, b'\'')
        }?;
        at = at.saturating_add(len);
        match continuation(text.get(at..)?) {
            Some(gap) => at = at.saturating_add(gap),
            None => return Some(at),
        }
    }
}

/// The distance to the quote that continues a string, if one does.
fn continuation(text: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    let mut new_line = false;
    loop {
        match text.get(at..)? {
            [b'\'', ..] if new_line => return Some(at),
            [b'\n' | b'\r', ..] => {
                new_line = true;
                at = at.saturating_add(1);
            }
            [blank, ..] if is_space(*blank) => at = at.saturating_add(1),
            rest @ [b'-', b'-', ..] => at = at.saturating_add(line_comment(rest)),
            _ => return None,
        }
    }
}

/// The tag that opens a dollar-quoted string, with both its dollar signs.
pub(super) fn dollar_tag(text: &[u8]) -> Option<&[u8]> {
    let name = text.strip_prefix(b"$")?;
    let len = match name.first()? {
        b'$' => 0,
        first if is_word_start(*first) => run(name, |byte| is_word(byte) && byte != b'$'),
        _ => return None,
    };
    let tag = text.get(..len.checked_add(2)?)?;
    tag.ends_with(b"$").then_some(tag)
}

/// `$tag$…$tag$`
pub(super) fn dollar_quoted(text: &[u8], tag: &[u8]) -> Option<usize> {
    let mut at = tag.len();
    loop {
        let step = memchr::memchr(b'$', text.get(at..)?)?;
        at = at.saturating_add(step);
        if text.get(at..)?.starts_with(tag) {
            return Some(at.saturating_add(tag.len()));
        }
        at = at.saturating_add(1);
    }
}

/// Whether the text begins with a number: a digit, or a point and a digit.
pub(super) fn is_number(text: &[u8]) -> bool {
    match text {
        [b'.', digit, ..] | [digit, ..] => digit.is_ascii_digit(),
        [] => false,
    }
}

/// A number as PostgreSQL read it before version 15: what else hangs on to it is the next token, such as the `_000` of
/// `1_000` or the escape string of `1E'…'`. Later versions read more numbers, and refuse the text wherever that would
/// move the bounds of a string.
pub(super) fn number(text: &[u8]) -> usize {
    let digits = |from: usize| run(text.get(from..).unwrap_or_default(), |byte| byte.is_ascii_digit());
    let mut len = digits(0);
    // `1..2` is a range, whose dots are not the number's.
    if text.get(len) == Some(&b'.') && text.get(len.saturating_add(1)) != Some(&b'.') {
        len = len.saturating_add(1);
        len = len.saturating_add(digits(len));
    }
    let exponent = match text.get(len..).unwrap_or_default() {
        [b'e' | b'E', b'0'..=b'9', ..] => 1,
        [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => 2,
        _ => return len,
    };
    len = len.saturating_add(exponent);
    len.saturating_add(digits(len))
}

/// A run of operator characters, which ends where a comment begins.
pub(super) fn operator(text: &[u8]) -> usize {
    let len = run(text, is_operator);
    let inside = text.get(..len).unwrap_or_default();
    inside
        .windows(2)
        .position(|pair| pair == b"--" || pair == b"/*")
        .unwrap_or(len)
}
