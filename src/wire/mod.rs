//! Bytes to meaning and back: the PostgreSQL frontend/backend protocol, without IO.
