//! What a client is told when howdah itself refuses or ends something.
//!
//! An error has an audience: the text here is written for the client's eyes. What the operator should know beside
//! it goes to the log, with the [`Farewell`](crate::farewell::Farewell) that ended the connection.

use std::borrow::Cow;
use std::fmt;

/// A five-character SQLSTATE ("PostgreSQL Error Codes", appendix A of the manual).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// From a server's error field; `None` unless it is five characters of ASCII.
    pub fn from_bytes(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(u8::is_ascii_alphanumeric).then_some(Self(code))
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The first two characters, by which errors are counted.
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }

    /// `successful_completion`: of notices.
    pub const SUCCESSFUL_COMPLETION: Self = Self(*b"00000");
    /// `connection_failure`: the server was lost.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// `protocol_violation`.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// `feature_not_supported`.
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// `invalid_parameter_value`.
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// `invalid_transaction_state`.
    pub const INVALID_TRANSACTION_STATE: Self = Self(*b"25000");
    /// `in_failed_sql_transaction`.
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    /// `idle_in_transaction_session_timeout`.
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    /// `transaction_timeout` (PostgreSQL 17).
    pub const TRANSACTION_TIMEOUT: Self = Self(*b"25P04");
    /// `invalid_sql_statement_name`.
    pub const INVALID_STATEMENT_NAME: Self = Self(*b"26000");
    /// `invalid_authorization_specification`.
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// `invalid_password`.
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// `invalid_catalog_name`: no such database.
    pub const INVALID_CATALOG_NAME: Self = Self(*b"3D000");
    /// `syntax_error`.
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    /// A setting cannot be changed while PostgreSQL runs, or in a session.
    pub const CANT_CHANGE_RUNTIME_PARAM: Self = Self(*b"55P02");
    /// `insufficient_privilege`.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    /// `undefined_object`.
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// `duplicate_prepared_statement`.
    pub const DUPLICATE_STATEMENT: Self = Self(*b"42P05");
    /// `too_many_connections`: of clients, or of waiters.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// `configuration_limit_exceeded`.
    pub const CONFIGURATION_LIMIT: Self = Self(*b"53400");
    /// `program_limit_exceeded`.
    pub const PROGRAM_LIMIT: Self = Self(*b"54000");
    /// `object_not_in_prerequisite_state`.
    pub const NOT_IN_PREREQUISITE_STATE: Self = Self(*b"55000");
    /// `query_canceled`, by request or by a time limit.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// `admin_shutdown`.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// `cannot_connect_now`.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// `idle_session_timeout`.
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// `config_file_error`.
    pub const CONFIG_FILE: Self = Self(*b"F0000");
    /// `io_error`.
    pub const IO_ERROR: Self = Self(*b"58030");
    /// `internal_error`.
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of howdah's own making, as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE that drivers act upon.
    pub code: SqlState,
    /// The primary message: short, lower case, no full stop (PostgreSQL's error style guide).
    pub message: Cow<'static, str>,
    /// More about what happened, if there is more to say.
    pub detail: Option<String>,
    /// What the reader may do about it.
    pub hint: Option<String>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// A refusal with a code and a message.
    pub fn new(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The same with a DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
