//! Signals, with the meaning that PgBouncer gave them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ending::Manner;

/// What the operator asks for, by a signal or on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// What was asked for has been done.
    Nothing,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: pause all pools.
    Pause,
    /// USR2: resume them.
    Resume,
    /// TERM: let clients finish their transactions, then end. INT: let servers finish theirs. QUIT: end now.
    End(Manner),
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
            _ = self.term.recv() => Wish::End(Manner::Drain),
            _ = self.int.recv() => Wish::End(Manner::Servers),
            _ = self.quit.recv() => Wish::End(Manner::Now),
            _ = self.usr1.recv() => Wish::Pause,
            _ = self.usr2.recv() => Wish::Resume,
        }
    }
}
