//! Requests of howdah's own among a client's: they are answered unseen, or stand for the client's where that has to fail.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::error::Refusal;
use crate::server::{Connection, NOTHING, Note, Statement};
use crate::wire::frontend::Parse;
use crate::wire::pipeline::{Answer, Request};
use crate::wire::write;

/// The name of howdah's own statement and portal for what is done on the way.
const DETOUR: &[u8] = b"howdah_detour";

/// Runs SQL of howdah's own within the client's segment, whatever becomes of that.
pub(super) fn run_quietly(sql: &[u8], server: &mut Connection) {
    open_detour(sql, server);
    fetch(0, None, server);
    close_detour(server);
}

/// Runs a query of howdah's own within the client's segment; its row is for the note.
pub(super) fn ask_quietly(sql: &[u8], note: Note, server: &mut Connection) {
    open_detour(sql, server);
    fetch(0, Some(note), server);
    close_detour(server);
}

/// Has the server prepare something between the two rows of such a query, if there is one.
pub(super) fn on_a_detour(
    sql: Option<&[u8]>,
    server: &mut Connection,
    prepare: impl FnOnce(&mut Connection),
) {
    let Some(sql) = sql else {
        return prepare(server);
    };
    open_detour(sql, server);
    fetch(1, None, server);
    prepare(server);
    fetch(0, None, server);
    close_detour(server);
}

fn open_detour(sql: &[u8], server: &mut Connection) {
    close_quietly(DETOUR, server);
    write_parse(&mut server.output, DETOUR, &[sql, b"\0\0\0"].concat());
    server.pipeline.sent(Request::Parse, Answer::Skip, None);
    write::bind(&mut server.output, DETOUR, DETOUR);
    server.pipeline.sent(Request::Bind, Answer::Skip, None);
}

/// So many rows, or with 0 the rest.
fn fetch(rows: u32, note: Option<Note>, server: &mut Connection) {
    write::message(&mut server.output, b'E', |out| {
        write::cstr(out, DETOUR);
        out.put_u32(rows);
    });
    server.pipeline.sent(Request::Execute, Answer::Skip, note);
}

fn close_detour(server: &mut Connection) {
    write::message(&mut server.output, b'C', |out| {
        out.put_u8(b'P');
        write::cstr(out, DETOUR);
    });
    server.pipeline.sent(Request::Close, Answer::Skip, None);
    close_quietly(DETOUR, server);
}

/// Takes away what is not the client's own: it is prepared again when somebody needs it. What stays, because something
/// before it fails, is still known to be there.
pub(super) fn hide_shared(server: &mut Connection) {
    close_quietly(NOTHING, server);
    for statement in server.prepared.take_all() {
        close_on_server(statement, server);
    }
}

/// Makes sure that the server has a statement of this name, which does nothing.
pub(super) fn prepare_empty(name: &[u8], server: &mut Connection) {
    close_quietly(name, server);
    write_parse(&mut server.output, name, b"\0\0\0");
    server.pipeline.sent(Request::Parse, Answer::Skip, None);
}

/// Closes a statement that may or may not be there.
pub(super) fn close_quietly(name: &[u8], server: &mut Connection) {
    write::close_statement(&mut server.output, name);
    server.pipeline.sent(Request::Close, Answer::Skip, None);
}

pub(super) fn write_parse(out: &mut BytesMut, name: &[u8], definition: &[u8]) {
    write::header(out, b'P', name.len() + 1 + definition.len());
    write::cstr(out, name);
    out.put_slice(definition);
}

pub(super) fn close_on_server(statement: Arc<Statement>, server: &mut Connection) {
    write::close_statement(&mut server.output, &statement.name);
    server
        .pipeline
        .sent(Request::Close, Answer::Skip, Some(Note::Evicted(statement)));
}

/// Makes the server fail at this place, with an error of ours in place of its own: so the transaction, and everything
/// up to the next Sync, fares as PostgreSQL would have it.
pub(super) fn refuse(server: &mut Connection, refusal: Refusal) {
    bind_nothing(server, Note::Refuse(Box::new(refusal)));
}

pub(super) fn bind_nothing(server: &mut Connection, note: Note) {
    close_quietly(NOTHING, server);
    write::bind(&mut server.output, b"", NOTHING);
    server.pipeline.sent(Request::Bind, Answer::Forward, Some(note));
}

/// A Parse of a name that is taken: PostgreSQL is to judge the statement first, and then to say so itself. A name that
/// is taken for certain stands for the client's.
pub(super) fn duplicate(parse: Parse<'_>, server: &mut Connection) {
    prepare_empty(NOTHING, server);
    write_parse(&mut server.output, NOTHING, parse.definition);
    server.pipeline.sent(
        Request::Parse,
        Answer::Forward,
        Some(Note::Alias(parse.name.into())),
    );
}

/// A Parse of a name that SQL's own PREPARE may have taken: whether it has, only the server knows. What is prepared under
/// the client's name there does not stay, because others call other statements so.
pub(super) fn try_name(parse: &Parse<'_>, server: &mut Connection) {
    write_parse(&mut server.output, parse.name, parse.definition);
    let note = Note::Learn {
        name: parse.name.into(),
        prepares: None,
        proves: false,
    };
    server.pipeline.sent(Request::Parse, Answer::Forward, Some(note));
    close_quietly(parse.name, server);
}

/// Ends a segment of howdah's own.
pub(super) fn sync(server: &mut Connection) {
    write::empty(&mut server.output, b'S');
    server.pipeline.sent(Request::Sync, Answer::Skip, None);
}
