//! What servers report of their sessions, and what clients are told of theirs.

use std::sync::Arc;

use crate::error::Refusal;
use crate::server::{Connection, Parameters};
use crate::wire::write;

use super::Session;

impl Session {
    /// What this server reports of itself, and what follows from it, the client is told.
    pub(super) fn tell_differences(&mut self, server: &Connection) {
        let believed = self.talk.settings.reported.clone();
        self.tell_since(&believed, server);
    }

    /// The same for a client that has been told this so far.
    pub(super) fn tell_since(&mut self, believed: &Arc<Parameters>, server: &Connection) {
        if Arc::ptr_eq(believed, &server.settings.reported) {
            return;
        }
        for (name, value) in server.settings.reported.differing(believed) {
            write::parameter_status(&mut self.talk.output, name, value);
        }
        self.talk.settings.reported = server.settings.reported.clone();
        self.settings_changed();
    }

    /// What the client's statements mean from now on.
    pub(super) fn settings_changed(&mut self) {
        let reported = self.talk.settings.reported.clone();
        self.talk.read_as(&reported);
        self.clock.idle_limits = self.pool.source().idle_limits(&self.talk.settings);
    }

    /// The session that the server has now is the client's, wherever it goes on.
    pub(super) fn keep_settings(&mut self, server: &mut Connection) {
        if Arc::ptr_eq(&self.talk.settings.reported, &server.settings.reported) {
            return;
        }
        let believed = self.talk.settings.reported.clone();
        self.suspect_new_defaults(&believed, server);
        server.settings.reported = self.pool.source().intern(&server.settings.reported);
        let before = std::mem::replace(&mut self.talk.settings.reported, server.settings.reported.clone());
        if before.get(b"application_name") != self.talk.settings.reported.get(b"application_name") {
            self.show_application_name();
        }
        self.settings_changed();
    }

    pub(super) fn show_application_name(&self) {
        let reported: &Parameters = &self.talk.settings.reported;
        self.seat
            .set_application_name(reported.get(b"application_name").unwrap_or_default());
    }
}

/// Why a client is ended whose settings a new server has refused. Nothing of what it has just asked for has run, nor is that
/// to blame.
pub(super) fn cannot_follow(refusal: Refusal) -> Refusal {
    let message =
        "terminating connection because no server can be set to what this session was set to before";
    let Refusal {
        code,
        message: why,
        detail,
        ..
    } = refusal;
    let detail = detail.map(|detail| format!(" {detail}")).unwrap_or_default();
    Refusal::new(code, message)
        .detail(format!("The server says: {why}.{detail}"))
        .hint("A role may have been dropped, renamed or taken away, or a value be allowed no longer.")
}
