//! Any bytes for a client's conversation: from either side, and in pieces of any size.

use std::cell::Cell;
use std::sync::LazyLock;

use super::Pause;
use super::model::{Server, World, message, socket, told};
use super::trail::{Following, Licence};
use crate::chance::Input;
use crate::client::login::startup::Wishes;
use crate::config::Config;
use crate::net::Stream;
use crate::wire::startup::Startup;

/// Sockets belong to a runtime, though nothing is ever read from these.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.expect("a runtime")
});
thread_local! {
    /// The socket of the last world, for the next one: to make one takes longer than most conversations.
    static SOCKET: Cell<Option<Stream>> = const { Cell::new(None) };
}
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// A client, and a server that another client has used before.
fn in_a_world(run: impl FnOnce(&mut World)) {
    let _inside = RUNTIME.enter();
    let mut world = World::new(SOCKET.take().unwrap_or_else(socket));
    run(&mut world);
    SOCKET.set(Some(world.connection.stream));
}

/// What a startup message asks for.
pub(crate) fn wishes(startup: &Startup) {
    if let Ok(wishes) = Wishes::new(startup, &CONFIG) {
        assert!(!wishes.user.is_empty() && !wishes.database.is_empty());
        for (name, _) in &wishes.settings {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
            let same = wishes.settings.iter().filter(|(other, _)| other == name);
            assert_eq!(same.count(), 1, "every setting has one value");
        }
    }
}

/// A program of sound messages: through howdah the client reads what the server says, whatever the pieces.
pub fn conversation(data: &[u8]) {
    let mut input = Input::new(data);
    let mut program = Vec::new();
    let mut pieces = Vec::new();
    while !input.is_empty() && program.len() < 2_000 {
        let written = sound(&mut input);
        pieces.push((written.len(), input.byte()));
        program.extend(written);
    }
    program.extend(message(b'S', &[]));
    let mut direct = Server::default();
    direct.hear(&program);
    in_a_world(|world| {
        tell(world, &program, &pieces);
        assert_eq!(told(&world.read), told(&direct.output));
        assert!(world.connection.pipeline.is_settled() && world.talk.input.is_empty());
    });
}

/// Sends the program in pieces, of which each has a length and says what happens meanwhile.
fn tell(world: &mut World, program: &[u8], pieces: &[(usize, u8)]) {
    let mut rest = program;
    for &(len, how) in pieces {
        // Half of the pieces are whole messages.
        let len = if how & 1 == 0 { len } else { usize::from(how) };
        let (piece, tail) = rest.split_at(len.min(rest.len()));
        rest = tail;
        world.talk.input.extend_from_slice(piece);
        if how & 2 != 0 {
            world.idle().expect("nothing is wrong");
        }
        if how & 4 != 0 && world.connection.pipeline.is_settled() && world.talk.up.is_done() {
            world.visit();
        }
        let heard = if how & 8 == 0 {
            usize::MAX
        } else {
            usize::from(how >> 4)
        };
        world.step(heard).expect("nothing is wrong");
    }
    world.talk.input.extend_from_slice(rest);
    while world.step(usize::MAX).expect("nothing is wrong") {}
}

/// A message, or a few, that a proper client might send.
fn sound(input: &mut Input<'_>) -> Vec<u8> {
    let name = input.pick(&["", "a", "b", "c", "howdah_1"]).as_bytes();
    let portal = input.pick(&["", "", "", "p"]).as_bytes();
    let bind = message(b'B', &[portal, b"\0", name, b"\0\0\0\0\0\0\0"]);
    let execute = message(b'E', &[portal, b"\0\0\0\0\0"]);
    match input.byte() % 20 {
        0..5 => {
            let texts = ["one", "two", "three", "four", "bad", "fail"];
            let freeing = ["DEALLOCATE a", "DEALLOCATE howdah_1", "DEALLOCATE ALL"];
            let text = input.pick(&[&texts[..], &freeing[..]].concat());
            message(b'P', &[name, b"\0", text.as_bytes(), b"\0\0\0"])
        }
        5..9 => [bind, execute].concat(),
        9 => bind,
        10 => execute,
        11 => message(b'D', &[b"S", name, b"\0"]),
        12 | 13 => message(b'C', &[b"S", name, b"\0"]),
        14 | 15 => {
            let text = input.pick(&[
                "one",
                "fail",
                "DEALLOCATE a",
                "DEALLOCATE ALL",
                "one;DEALLOCATE a;DEALLOCATE b",
                "DEALLOCATE b;fail;DEALLOCATE a",
                "DEALLOCATE ALL;DEALLOCATE a",
                "DEALLOCATE howdah_1;one",
            ]);
            message(b'Q', &[text.as_bytes(), b"\0"])
        }
        16 => message(b'H', &[]),
        _ => message(b'S', &[]),
    }
}

/// Any bytes from a client. The first says how they are cut.
pub fn client_messages(data: &[u8]) {
    in_a_world(|world| heard(world, data));
}

fn heard(world: &mut World, data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    world.talk.trail.following = input.pick(&[Following::All, Following::SettingsOnly, Following::Not]);
    world.talk.trail.licence = if how & 1 == 0 {
        Licence::Anything
    } else {
        Licence::Nothing
    };
    world.talk.allow_deferral(how & 2 != 0);
    let size = [usize::MAX, 1, 7, 100][usize::from(how >> 2 & 3)];
    while !input.is_empty() {
        world.talk.input.extend_from_slice(input.bytes(size));
        if world.idle().is_err() {
            return;
        }
        for _ in 0..4 {
            match world.step(usize::MAX) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
        let limit = data.len() * 40 + 10_000;
        assert!(
            world.talk.output.len() + world.connection.output.len() < limit,
            "it grows"
        );
        // What has been left behind is looked at by others.
        if world.connection.pipeline.is_settled() {
            world.talk.trail.marks = None;
        }
    }
}

/// Any bytes from a server, in answer to a client of few words.
pub fn server_messages(data: &[u8]) {
    in_a_world(|world| answered(world, data));
}

fn answered(world: &mut World, data: &[u8]) {
    let mut input = Input::new(data);
    let size = input.pick(&[usize::MAX, 1, 5, 50]);
    let asked = usual(input.byte());
    world.talk.input.extend_from_slice(&asked);
    loop {
        if let Pause::Over(_) = world.talk.requests(&mut world.connection) {
            return;
        }
        world.connection.output.clear();
        if input.is_empty() {
            return;
        }
        world.connection.input.extend_from_slice(input.bytes(size));
        if world.talk.responses(&mut world.connection).is_err() {
            return;
        }
        let answered = world.talk.output.len();
        assert!(
            answered <= data.len() + asked.len() * 2 + 1_000,
            "{answered} bytes of answers"
        );
    }
}

/// What drivers ask.
fn usual(which: u8) -> Vec<u8> {
    let query = |text: &str| message(b'Q', &[text.as_bytes(), b"\0"]);
    let run = |name: &str| {
        [
            message(b'B', &[b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"]),
            message(b'D', &[b"P\0"]),
            message(b'E', &[b"\0\0\0\0\0"]),
        ]
        .concat()
    };
    let parse = |name: &str, text: &str| message(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"]);
    let sync = message(b'S', &[]);
    match which % 8 {
        0 => query("SELECT 1"),
        1 => [query("BEGIN"), query("SELECT 1"), query("COMMIT")].concat(),
        2 => [parse("", "SELECT 1"), run(""), sync].concat(),
        3 => [
            parse("a", "SELECT 1"),
            run("a"),
            run("a"),
            sync.clone(),
            run("a"),
            sync,
        ]
        .concat(),
        4 => [
            query("COPY t FROM STDIN"),
            message(b'd', &[b"1\n"]),
            message(b'c', &[]),
        ]
        .concat(),
        5 => query("COPY t TO STDOUT"),
        6 => [
            parse("a", "SELECT 1"),
            message(b'C', &[b"Sa\0"]),
            message(b'D', &[b"Sb\0"]),
            sync,
        ]
        .concat(),
        _ => [
            query("DEALLOCATE a"),
            query("DEALLOCATE ALL"),
            message(b'F', &[b"\0\0\0\x01"]),
        ]
        .concat(),
    }
}
