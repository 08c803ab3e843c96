//! One connection to PostgreSQL.
