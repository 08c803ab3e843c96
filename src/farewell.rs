//! Every client connection ends with one value of one enum: who ended it, why, what the client was told.

use crate::error::Refusal;

/// How a client connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The client sent Terminate while nothing was in flight.
    Terminated,
    /// The client's connection closed (end of file) without Terminate.
    Vanished,
    /// Reading from or writing to the client failed.
    ClientIo(String),
    /// The client broke the protocol; it was told so.
    ClientProtocol(Refusal),
    /// The client may not log in; it was told so.
    LoginRefused(Denial, Refusal),
    /// A limit or timer of the pool ended the session; the client was told so.
    Limit(Refusal),
    /// The server connection that served this client broke in the middle of its work.
    ServerLost(Refusal),
    /// The server sent something that the protocol does not allow.
    ServerProtocol(Refusal),
    /// An administrator ended it: KILL, `KILL_CLIENT`, DISABLE, SHUTDOWN, drain.
    Administrator(Refusal),
    /// The connection carried a cancel request, which never gets an answer.
    CancelRequest,
    /// A session of another kind (console, replication) came to its end.
    Finished,
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The proof was wrong, or there is no such user, or nothing that it could prove.
    Password,
    /// The channel binding was wrong: somebody is in between, or has edited what was on offer.
    Binding,
    /// No rule lets such a connection in.
    Rule,
    /// What the client says of itself is not according to the protocol.
    Protocol,
    /// What decides about it could not be asked: `auth_query`, a directory.
    Lookup,
    /// There is no such database, or it is disabled.
    Database,
    /// The console is not for this user.
    Permission,
    /// The startup message asks for what cannot be had.
    Startup,
    /// A limit of clients, or of those who are logging in, has been reached.
    Limit,
    /// It took longer than `client_login_timeout`.
    Timeout,
    /// The server that is needed for the login refuses, or cannot be reached.
    Server,
}

impl Denial {
    /// The label under which it is counted.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }

    /// Every label there is, in the order of the variants.
    pub const LABELS: [&'static str; 11] = [
        "password",
        "binding",
        "rule",
        "protocol",
        "lookup",
        "database",
        "permission",
        "startup",
        "limit",
        "timeout",
        "server",
    ];
}

impl Farewell {
    /// The label under which it is counted.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::Vanished => "vanished",
            Self::ClientIo(_) => "client_io",
            Self::ClientProtocol(_) => "client_protocol",
            Self::LoginRefused(..) => "login_refused",
            Self::Limit(_) => "limit",
            Self::ServerLost(_) => "server_lost",
            Self::ServerProtocol(_) => "server_protocol",
            Self::Administrator(_) => "administrator",
            Self::CancelRequest => "cancel_request",
            Self::Finished => "finished",
        }
    }

    /// Every label there is, for counters that are there from the start.
    pub const LABELS: [&'static str; 11] = [
        "terminated",
        "vanished",
        "client_io",
        "client_protocol",
        "login_refused",
        "limit",
        "server_lost",
        "server_protocol",
        "administrator",
        "cancel_request",
        "finished",
    ];

    /// What the client was told, if it was told anything.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::ClientProtocol(refusal)
            | Self::LoginRefused(_, refusal)
            | Self::Limit(refusal)
            | Self::ServerLost(refusal)
            | Self::ServerProtocol(refusal)
            | Self::Administrator(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl std::fmt::Display for Farewell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Terminated => f.write_str("client closed the connection"),
            Self::Vanished => f.write_str("client vanished without saying goodbye"),
            Self::ClientIo(error) => write!(f, "client connection failed: {error}"),
            Self::CancelRequest => f.write_str("cancel request"),
            Self::Finished => f.write_str("finished"),
            other => match other.refusal() {
                Some(refusal) => write!(f, "{}: {refusal}", other.label()),
                None => f.write_str(other.label()),
            },
        }
    }
}
