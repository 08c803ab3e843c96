//! One application connection.
