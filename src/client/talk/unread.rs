//! What a transaction has run before anybody knew what the functions do that it calls.

use crate::server::FunctionTable;
use crate::sql::Effects;

/// So much is kept of texts that may call functions which nobody has read, in bytes, for one transaction.
const UNREAD_MAX: usize = 64 * 1024;

/// Texts that may call functions of which nothing was known.
#[derive(Debug, Default)]
pub(super) struct Unread {
    texts: Vec<u8>,
    is_cut: bool,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && !self.is_cut
    }

    pub(super) fn add(&mut self, text: &[u8]) {
        if self.texts.len().saturating_add(text.len()) > UNREAD_MAX {
            self.is_cut = true;
        } else {
            self.texts.extend_from_slice(text);
            // No name goes on into the next text.
            self.texts.push(b'\n');
        }
    }

    /// What the functions leave that are called, or may be, as it has turned out.
    pub(super) fn hidden_effects(&self, functions: &FunctionTable) -> Effects {
        if self.is_cut {
            functions.all_hidden_effects()
        } else {
            functions.hidden_effects(&self.texts)
        }
    }
}
