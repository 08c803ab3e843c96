//! Signals, with the meaning that PgBouncer gave them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator asks for by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// HUP: read the configuration again.
    Reload,
    /// TERM: let clients finish their transactions, then end.
    Drain,
    /// INT, QUIT: end now.
    Stop,
    /// USR1: pause all pools.
    Pause,
    /// USR2: resume them.
    Resume,
}

/// The signals that are listened to.
pub(super) struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
    quit: Signal,
    usr1: Signal,
    usr2: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hup.recv() => Wish::Reload,
            _ = self.term.recv() => Wish::Drain,
            _ = self.int.recv() => Wish::Stop,
            _ = self.quit.recv() => Wish::Stop,
            _ = self.usr1.recv() => Wish::Pause,
            _ = self.usr2.recv() => Wish::Resume,
        }
    }
}
