//! What a setting has to do with the meaning of a text.

/// What a setting decides about the statements that are parsed under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bearing {
    /// Nothing.
    #[default]
    None,
    /// Which objects its names stand for, and whether they may be used. PostgreSQL looks that up again when it has
    /// changed, but keeps the types of parameters and rows that it found the first time.
    Names,
    /// What it means, from its Parse on and for good.
    Meaning,
}

/// Settings that clients often differ in, and that no statement's meaning depends on.
const MEANINGLESS: [&[u8]; 15] = [
    b"application_name",
    b"client_min_messages",
    b"deadlock_timeout",
    b"default_transaction_deferrable",
    b"default_transaction_isolation",
    b"default_transaction_read_only",
    b"effective_cache_size",
    b"idle_in_transaction_session_timeout",
    b"idle_session_timeout",
    b"jit",
    b"lock_timeout",
    b"maintenance_work_mem",
    b"statement_timeout",
    b"synchronous_commit",
    b"work_mem",
];
const NAMES: [&[u8]; 4] = [b"role", b"row_security", b"search_path", b"session_authorization"];

impl Bearing {
    /// Of the setting of this name, in lower case.
    pub fn of(name: &[u8]) -> Self {
        // Custom settings are looked up when a statement runs.
        if name.contains(&b'.') || MEANINGLESS.contains(&name) {
            Self::None
        } else if NAMES.contains(&name) {
            Self::Names
        } else {
            Self::Meaning
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bearing;

    #[test]
    fn what_is_not_known_decides_the_meaning() {
        assert_eq!(Bearing::of(b"timezone"), Bearing::Meaning);
        assert_eq!(Bearing::of(b"transform_null_equals"), Bearing::Meaning);
        assert_eq!(Bearing::of(b"a_setting_of_the_future"), Bearing::Meaning);
        assert_eq!(Bearing::of(b"search_path"), Bearing::Names);
        assert_eq!(Bearing::of(b"app.tenant"), Bearing::None);
        assert_eq!(Bearing::of(b"work_mem"), Bearing::None);
    }
}
