//! What calls of functions do.

/// What is known of a function by its bare name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// It leaves nothing: every function of this name is immutable, stable, or one of PostgreSQL's own.
    Harmless,
    /// A function of this name is volatile and not PostgreSQL's own.
    Volatile,
    /// There was none of this name when somebody last looked.
    Absent,
    /// Nothing is known, of this one nor of others.
    Unknown,
}

/// Looks functions up.
///
/// PostgreSQL's own functions are all harmless, volatile or not: those that leave something are known here by name.
pub trait Functions {
    /// What is known of the functions of this name in any schema. The name is folded as PostgreSQL folds it.
    fn volatility(&self, name: &[u8]) -> Volatility;
}

/// A function that is known here by name, whatever its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// `set_config(name, value, is_local)`
    SetConfig,
    /// Sets this setting.
    Setting(&'static [u8]),
    /// Takes a session's advisory lock.
    Lock,
    /// May give something back.
    Release,
    /// `pg_notify(channel, payload)`
    Notify,
    /// Makes a replication slot, a temporary one if the third argument says so.
    CreateSlot,
    /// Copies a replication slot, which is as temporary as the other one unless the third argument says how.
    CopySlot,
    /// `setseed(seed)`
    Seed,
    /// Leaves what cannot be seen or undone.
    Sticky,
    /// Runs SQL that it is given as a text.
    RunsText,
}

/// PostgreSQL's functions, and those of its own extensions, that leave something or run what they are told.
///
/// The transaction's own locks (`pg_advisory_xact_lock`) end with it.
pub(super) fn special(name: &[u8]) -> Option<Special> {
    Some(match name {
        b"set_config" => Special::SetConfig,
        // Of pg_trgm.
        b"set_limit" => Special::Setting(b"pg_trgm.similarity_threshold"),
        b"pg_advisory_lock"
        | b"pg_advisory_lock_shared"
        | b"pg_try_advisory_lock"
        | b"pg_try_advisory_lock_shared" => Special::Lock,
        b"pg_advisory_unlock"
        | b"pg_advisory_unlock_shared"
        | b"pg_advisory_unlock_all"
        | b"pg_drop_replication_slot" => Special::Release,
        b"pg_notify" => Special::Notify,
        b"setseed" => Special::Seed,
        b"pg_create_logical_replication_slot" | b"pg_create_physical_replication_slot" => Special::CreateSlot,
        b"pg_copy_logical_replication_slot" | b"pg_copy_physical_replication_slot" => Special::CopySlot,
        // The backup belongs to the session and ends with it.
        b"pg_backup_start" | b"pg_start_backup" | b"pg_backup_stop" | b"pg_stop_backup"
        // All later transactions are marked as replayed ones.
        | b"pg_replication_origin_session_setup" | b"pg_replication_origin_session_reset"
        // Connections of dblink, with a name or without, and their cursors and results.
        | b"dblink_connect" | b"dblink_connect_u" | b"dblink_open" | b"dblink_send_query" => Special::Sticky,
        // They claim to be stable, and run what a text says.
        b"query_to_xml" | b"query_to_xmlschema" | b"query_to_xml_and_xmlschema" | b"ts_stat" | b"ts_rewrite"
        // The like of tablefunc and xml2.
        | b"crosstab" | b"crosstab2" | b"crosstab3" | b"crosstab4" | b"connectby" | b"xpath_table" // TREAT(x AS name) is a call of that function.
        | b"treat" => Special::RunsText,
        _ => return None,
    })
}
