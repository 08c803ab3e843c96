//! How pools behave.
