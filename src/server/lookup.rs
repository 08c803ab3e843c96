//! A query of somebody's with one parameter, and the first rows of its answer.

use bytes::{BufMut, BytesMut};

use crate::wire::backend::{self, Status};
use crate::wire::pipeline::{Answer, Request};
use crate::wire::write;

use super::Row;
use super::connection::{Connection, Failure, UnnamedSlot};

/// The longest answer that is read to its end, in bytes.
const ANSWER_LEN_MAX: usize = 1 << 20;

impl Connection {
    /// Runs a query whose `$1` is `parameter`, which is sent beside it and never part of it. Returns at most `rows_max`
    /// rows. The server must be idle, and is so afterwards unless it is lost.
    pub async fn look_up(&mut self, sql: &str, parameter: &[u8], rows_max: u16) -> Result<Vec<Row>, Failure> {
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
        let collect = |message: &super::connect::Message| {
            if message.tag() == b'D' && rows.len() < usize::from(rows_max) {
                rows.push(backend::data_row(message.body()));
            }
        };
        if !self.wait_until_quiet(ANSWER_LEN_MAX, collect).await? {
            return Err(Failure::Lost("the answer is too long".to_owned()));
        }
        if self.pipeline.status() != Status::Idle {
            return Err(Failure::Lost("the query has left a transaction open".to_owned()));
        }
        self.unnamed = UnnamedSlot::Empty;
        rows.into_iter().map(|row| row.map_err(Failure::wire)).collect()
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
