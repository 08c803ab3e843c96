//! What a transaction has run before anybody knew what the functions do that it calls.

use crate::server::FunctionTable;

/// So much is kept of texts that may call functions which nobody has read, in bytes, for one transaction.
const UNREAD_MAX: usize = 64 * 1024;

/// Texts that may call functions of which nothing was known.
#[derive(Debug, Default)]
pub(super) struct Unread {
    texts: Vec<u8>,
    is_cut: bool,
}

impl Unread {
    pub(super) fn add(&mut self, text: &[u8]) {
        if self.texts.len().saturating_add(text.len()) > UNREAD_MAX {
            self.is_cut = true;
        } else {
            self.texts.extend_from_slice(text);
            // No name goes on into the next text.
            self.texts.push(b'\n');
        }
    }

    /// Whether one of those that have turned out to compute the names of settings is called, or may be.
    pub(super) fn may_compute(&self, functions: &FunctionTable) -> bool {
        functions.computes_setting(&self.texts) || self.is_cut && functions.has_computing()
    }
}
