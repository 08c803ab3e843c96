//! How pools behave.

mod control;
mod fake;
mod growth;
mod model;
mod sharing;
mod stress;
mod time;
mod waiting;
