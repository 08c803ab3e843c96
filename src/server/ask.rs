//! A question of howdah's own: one query with one parameter, and the rows of its answer.

use bytes::{BufMut, BytesMut};

use crate::wire::backend::{self, ErrorFields, Status};
use crate::wire::pipeline::{Answer, Request};
use crate::wire::write;

use super::connection::{Connection, Failure, UnnamedSlot, refusal_of};

/// The values of a row as text; `None` is NULL.
pub type Row = Vec<Option<Vec<u8>>>;

impl Connection {
    /// Runs a query whose `$1` is `parameter`, which is sent beside it and never part of it. Returns at most `rows_max`
    /// rows. The server must be idle.
    pub async fn ask(&mut self, sql: &str, parameter: &[u8], rows_max: u16) -> Result<Vec<Row>, Failure> {
        write_question(&mut self.output, sql.as_bytes(), parameter, rows_max);
        for request in [
            Request::Parse,
            Request::Bind,
            Request::Execute,
            Request::Close,
            Request::Sync,
        ] {
            self.pipeline.sent(request, Answer::Skip, None);
        }
        self.unnamed = UnnamedSlot::Unknown;
        self.flush().await?;
        let mut rows = Vec::new();
        let mut error = None;
        while !self.pipeline.is_quiet() {
            let message = self.receive().await?;
            let (tag, body) = (message.tag(), message.body());
            let mut status = Status::Idle;
            match tag {
                b'D' if rows.len() >= usize::from(rows_max) => {
                    return Err(Failure::protocol("row beyond those that were asked for"));
                }
                b'D' => rows.push(backend::data_row(body).map_err(Failure::wire)?),
                b'S' => drop(self.learn(body)?),
                b'E' => {
                    let fields = ErrorFields::new(body);
                    if fields.is_fatal() {
                        return Err(Failure::Lost(refusal_of(fields).to_string()));
                    }
                    error.get_or_insert_with(|| refusal_of(fields));
                }
                b'Z' => status = Status::parse(body).map_err(Failure::wire)?,
                _ => {}
            }
            let unexpected = self.pipeline.received(tag, status, |_, _| ());
            unexpected.map_err(|tag| Failure::protocol(format!("message {:?}", tag.0 as char)))?;
        }
        if self.pipeline.is_doubtful() || self.pipeline.status() != Status::Idle {
            return Err(Failure::protocol("state after a question"));
        }
        if let Some(refusal) = error {
            return Err(Failure::Sql(refusal));
        }
        self.unnamed = UnnamedSlot::Empty;
        Ok(rows)
    }
}

/// Parse, Bind, Execute, Close and Sync, with the unnamed statement and portal.
fn write_question(out: &mut BytesMut, sql: &[u8], parameter: &[u8], rows_max: u16) {
    write::message(out, b'P', |out| {
        write::cstr(out, b"");
        write::cstr(out, sql);
        out.put_u16(0);
    });
    write::message(out, b'B', |out| {
        write::cstr(out, b"");
        write::cstr(out, b"");
        // All values as text: one parameter, any number of columns.
        out.put_u16(0);
        out.put_u16(1);
        out.put_u32(u32::try_from(parameter.len()).unwrap_or(u32::MAX));
        out.put_slice(parameter);
        out.put_u16(0);
    });
    write::message(out, b'E', |out| {
        write::cstr(out, b"");
        out.put_i32(rows_max.into());
    });
    write::close_statement(out, b"");
    write::empty(out, b'S');
}
