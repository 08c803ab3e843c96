//! What systemd is told of the process (`sd_notify(3)`), if systemd has started it: that it is ready, reads its
//! configuration again, drains, and is alive.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// Nobody may be there to be told.
fn tell(states: &[NotifyState<'_>]) {
    let _ = notify(false, states);
}

/// The configuration is in force, and clients are served; `status` says so in words.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] follows.
pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    tell(
        &[Some(NotifyState::Reloading), now]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>(),
    );
}

/// The process is on its way out.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says that the process is alive, twice in the time that `WATCHDOG_USEC` allows. Where nobody wants to know, nothing
/// is done.
pub(super) fn keep_alive() {
    let Some(limit) = watchdog() else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    });
}

/// How long the process may say nothing (`sd_watchdog_enabled(3)`): what another process was given does not count.
fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_anothers = std::env::var_os("WATCHDOG_PID").is_some()
        && number("WATCHDOG_PID") != Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC")
        .filter(|micros| *micros > 0 && !is_anothers)
        .map(Duration::from_micros)
}
