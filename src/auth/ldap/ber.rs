//! As much of ASN.1's Basic Encoding Rules as LDAP needs (RFC 4511, section 5.1): definite lengths, small integers.

/// `BOOLEAN`
pub(super) const BOOLEAN: u8 = 0x01;
/// `INTEGER`
pub(super) const INTEGER: u8 = 0x02;
/// `OCTET STRING`
pub(super) const STRING: u8 = 0x04;
/// `ENUMERATED`
pub(super) const ENUMERATED: u8 = 0x0a;
/// `SEQUENCE`
pub(super) const SEQUENCE: u8 = 0x30;

/// An element: tag, length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => {
            let bytes = content.len().to_be_bytes();
            let digits = bytes.iter().skip_while(|byte| **byte == 0);
            out.push(0x80);
            for digit in digits {
                out.push(*digit);
            }
            let count = u8::try_from(out.len().saturating_sub(2)).unwrap_or(u8::MAX);
            if let Some(first) = out.get_mut(1) {
                *first |= count;
            }
        }
    }
    out.extend_from_slice(content);
    out
}

/// An element made of others.
pub(super) fn together(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// Elements one after the other.
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element: its tag and content. `None` at the end and where there is no whole one.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (len, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(have, _)| *have == tag)
            .map(|(_, content)| content)
    }

    /// The next element as a number from 0 to `i32::MAX`, under this tag.
    pub(super) fn number(&mut self, tag: u8) -> Option<u32> {
        let content = self.expect(tag)?;
        if content.is_empty() || content.len() > 4 || content.first().is_some_and(|byte| *byte >= 0x80) {
            return None;
        }
        Some(
            content
                .iter()
                .fold(0, |number, byte| number << 8 | u32::from(*byte)),
        )
    }
}

/// The length that the bytes begin with, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let count = usize::from(first & 0x7f);
    // 0 stands for an indefinite length, which LDAP forbids; more than 4 digits for more than anybody sends.
    if !(1..=4).contains(&count) {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(count)?;
    let len = digits
        .iter()
        .fold(0, |len: usize, digit| len << 8 | usize::from(*digit));
    Some((len, rest))
}

/// How many bytes the element takes that the bytes begin with: `Ok(None)` when that is not known yet, an error when it
/// can be none or takes more than `max`.
pub(super) fn whole_len(bytes: &[u8], max: usize) -> Result<Option<usize>, ()> {
    const LONGEST_HEAD: usize = 6;
    match bytes.get(1..).map(length) {
        Some(Some((len, rest))) => {
            let head = bytes.len() - rest.len();
            let whole = head.checked_add(len).filter(|whole| *whole <= max);
            whole.map(Some).ok_or(())
        }
        Some(None)
            if bytes.len() >= LONGEST_HEAD
                || bytes
                    .get(1)
                    .is_some_and(|first| !matches!(first, 0..=0x7f | 0x81..=0x84)) =>
        {
            Err(())
        }
        _ => Ok(None),
    }
}
