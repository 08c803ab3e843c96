//! The running process: from a configuration to the last farewell.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::client::{Front, Handle, House, Order, Visit};
use crate::config::Config;
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;

use super::signals::{Signals, Wish};
use super::{accept, descriptors, listen, prefill, workers};

/// How long clients may take to leave once they have been told to.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// How often a drain looks whether everybody has left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What the tasks of this process share.
pub(super) struct Process {
    pub(super) front: Arc<Front>,
}

/// What ends the process in good order.
pub(super) enum Until {
    /// A signal.
    Signal,
    /// A signal, or the end of this command.
    Ends(Box<tokio::process::Command>),
}

/// Serves clients until a signal ends it, or the command does; then its exit status is returned.
pub(super) fn run(config: Config, until: Until) -> Result<Option<ExitStatus>> {
    let _subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
    let settings = &config.settings;
    descriptors::raise_limit(u64::from(settings.max_client_conn) * 2 + 100);
    let runtime = workers::runtime(settings.workers).context("cannot start the workers")?;
    let result = runtime.block_on(serve(config, until));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: Config, until: Until) -> Result<Option<ExitStatus>> {
    let mut signals = Signals::new().context("cannot listen to signals")?;
    let listeners = listen::listeners(&config.settings)?;
    let house = House::new(config).map_err(anyhow::Error::msg)?;
    let process = Arc::new(Process {
        front: Front::new(house),
    });
    prefill::prefill(&process.front);
    let stop = CancellationToken::new();
    for listener in listeners {
        tracing::info!(%listener, "listening");
        tokio::spawn(accept::accept(listener, process.clone(), stop.clone()));
    }
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    let mut command = match until {
        Until::Signal => None,
        Until::Ends(mut command) => Some(command.spawn().context("cannot run the command")?),
    };
    let mut status = None;
    loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            ended = ended(&mut command) => {
                status = Some(ended.context("cannot wait for the command")?);
                Wish::Stop
            }
        };
        match wish {
            Wish::Reload => process.reload(),
            Wish::Pause => process.front.pools.all().iter().for_each(|pool| pool.pause()),
            Wish::Resume => process.front.pools.all().iter().for_each(|pool| pool.resume()),
            Wish::Stop => break,
            Wish::Drain => {
                stop.cancel();
                tokio::select! {
                    () = process.drain() => {}
                    // A second signal of either kind is impatience.
                    _ = signals.next() => {}
                }
                break;
            }
        }
    }
    stop.cancel();
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    process.send_everybody_away().await;
    Ok(status)
}

/// The end of the command, if there is one.
async fn ended(command: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match command {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

impl Process {
    /// Reads the configuration again. A faulty one changes nothing.
    pub(super) fn reload(&self) {
        let before = self.front.house();
        let loaded = Config::load(&before.config.origin).map_err(|faults| faults.to_string());
        match loaded.and_then(House::new) {
            Ok(house) => {
                let restart = before.config.restart_needed(&house.config);
                if !restart.is_empty() {
                    tracing::warn!(
                        settings = restart.join(", "),
                        "these settings take effect after a restart"
                    );
                }
                self.front.apply(house);
                prefill::prefill(&self.front);
                tracing::info!("configuration reloaded");
            }
            Err(faults) => tracing::error!(%faults, "configuration is faulty and was not reloaded"),
        }
    }

    /// Waits until every client has come to the end of its transaction and left.
    async fn drain(&self) {
        let clients = &self.front.clients;
        tracing::info!(
            clients = clients.len(),
            "draining: clients leave at the end of their transactions"
        );
        let refusal = Refusal::new(
            SqlState::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        );
        let limit = self.front.house().config.settings.drain_timeout;
        let everybody_left = async {
            while !clients.is_empty() || clients.logging_in() > 0 {
                // Those who were logging in when it began hear of it as well.
                clients.order_all(&Order::Drain(refusal.clone()), |_| true);
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if limit.is_zero() {
            everybody_left.await;
        } else if tokio::time::timeout(limit, everybody_left).await.is_err() {
            tracing::warn!(
                clients = clients.len(),
                "drain_timeout is over, the rest is sent away"
            );
        }
    }

    async fn send_everybody_away(&self) {
        let clients = &self.front.clients;
        let refusal = Refusal::new(
            SqlState::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        );
        clients.order_all(&Order::Kill(refusal.clone()), |_| true);
        let left = async {
            while !clients.is_empty() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_MAX, left).await;
        for pool in self.front.pools.all() {
            pool.close(refusal.clone());
        }
        tracing::info!("stopped");
    }

    pub(super) fn log_connect(&self, handle: &Handle) {
        if self.front.house().config.settings.log_connections {
            tracing::info!(
                client = handle.id,
                peer = %handle.peer,
                user = handle.user,
                database = handle.database,
                "client logged in"
            );
        }
    }

    pub(super) fn log_disconnect(&self, handle: &Handle, farewell: &Farewell) {
        if self.front.house().config.settings.log_disconnections {
            tracing::info!(
                client = handle.id,
                peer = %handle.peer,
                user = handle.user,
                database = handle.database,
                reason = %farewell,
                "client left"
            );
        }
    }

    /// Serves a visitor of the console.
    #[expect(clippy::unused_async, reason = "the console is about to come")]
    pub(super) async fn console(&self, _visit: Visit) -> Farewell {
        Farewell::Finished
    }
}
