//! The running process: from a configuration to the last farewell.

use std::net::ToSocketAddrs;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Order, Task};
use crate::client::House;
use crate::config::{Config, Settings};
use crate::log::{self, Log};
use crate::metrics;

use super::ending::{self, Manner};
use super::process::Process;
use super::signals::{Signals, Wish};
use super::{accept, descriptors, listen, prefill, supervisor, sweep, workers};

/// Orders from consoles that may wait to be carried out.
const ORDERS_MAX: usize = 16;
/// Descriptors beyond those of clients and servers: listeners, the log, lookups, metrics.
const DESCRIPTORS_SPARE: u64 = 100;
/// How long the command may take to end when it is asked to.
const COMMAND_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether statistics are wanted again.
const NO_STATISTICS: Duration = Duration::from_secs(60);

/// What ends the process in good order.
pub(super) enum Until {
    /// A signal.
    Signal,
    /// A signal, or the end of this command.
    Ends(Box<tokio::process::Command>),
}

/// Serves clients until a signal ends it, or the command does; then its exit status is returned. `watched` are signals
/// that are listened to already, so that none is lost that came before.
pub(super) fn run(config: Config, until: Until, watched: Option<Signals>) -> Result<Option<ExitStatus>> {
    let settings = &config.settings;
    let log = log::start(settings.log_format, &settings.log_level).map_err(anyhow::Error::msg)?;
    descriptors::raise_limit(u64::from(settings.max_client_conn) * 2 + DESCRIPTORS_SPARE);
    let _pidfile = descriptors::write_pidfile(&settings.pidfile)?;
    let runtime = workers::runtime(settings.workers).context("cannot start the workers")?;
    let result = runtime.block_on(serve_until(config, log, until, watched));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Serves clients until a signal ends it.
pub fn serve(config: Config) -> Result<()> {
    run(config, Until::Signal, None).map(|_| ())
}

async fn serve_until(
    config: Config,
    log: Log,
    until: Until,
    watched: Option<Signals>,
) -> Result<Option<ExitStatus>> {
    let mut signals = match watched {
        Some(signals) => signals,
        None => Signals::new().context("cannot listen to signals")?,
    };
    let listeners = listen::listeners(&config.settings)?;
    let metrics_listener = metrics_listener(&config.settings)?;
    let house = House::new(config).map_err(anyhow::Error::msg)?;
    let (orders, mut orders_given) = mpsc::channel(ORDERS_MAX);
    let process = Process::new(house, log, orders);
    prefill::prefill(&process.front);
    sweep::start(&process.front);
    let stop = CancellationToken::new();
    for listener in listeners {
        tracing::info!(%listener, "listening");
        tokio::spawn(accept::accept(listener, process.clone(), stop.clone()));
    }
    if let Some(listener) = metrics_listener {
        tokio::spawn(metrics::serve(listener, process.exhibit.clone()));
    }
    tokio::spawn(keep_statistics(process.clone()));
    let mut command = match until {
        Until::Signal => None,
        Until::Ends(mut command) => Some(command.spawn().with_context(|| {
            let program = command.as_std().get_program().display().to_string();
            format!("cannot run \"{program}\"")
        })?),
    };
    supervisor::ready("serving clients");
    supervisor::keep_alive();

    let mut status = None;
    let manner = loop {
        let wish = tokio::select! {
            wish = signals.next() => wish,
            Some(order) = orders_given.recv() => carry_out(&process, order),
            ended = ended(&mut command) => {
                status = Some(ended.context("cannot wait for the command")?);
                Wish::End(Manner::Now)
            }
        };
        match wish {
            Wish::Nothing => {}
            Wish::Reload => {
                let _ = process.reload();
            }
            Wish::Pause => process.pause(),
            Wish::Resume => process.resume(),
            // The command's clients are its own affair: it is told instead.
            Wish::End(_) if command.is_some() => break Manner::Now,
            Wish::End(manner) => break manner,
        }
    };
    stop.cancel();
    supervisor::stopping();
    tokio::select! {
        () = ending::wait(&process, manner) => {}
        // Another signal is impatience.
        _ = signals.next() => {}
        // An order that comes now comes too late, but for one to be quicker.
        () = hurry(&mut orders_given) => {}
    }
    if let (Some(child), None) = (&mut command, status) {
        status = Some(end(child).await.context("cannot wait for the command")?);
    }
    ending::send_everybody_away(&process).await;
    Ok(status)
}

/// Ends the command, which may take its time to end in good order, but not for ever.
async fn end(child: &mut Child) -> std::io::Result<ExitStatus> {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(id) = id {
        let _ = kill_process(id, Signal::TERM);
    }
    if let Ok(ended) = tokio::time::timeout(COMMAND_MAX, child.wait()).await {
        return ended;
    }
    child.start_kill()?;
    child.wait().await
}

/// Carries out an order from a console; what concerns the process as a whole comes back as a wish.
pub(super) fn carry_out(process: &Process, order: Order) -> Wish {
    let answer = process.obey(&order.task);
    let wish = match order.task {
        Task::Shutdown(shutdown) => Wish::End(shutdown.into()),
        Task::Reload | Task::Set { .. } => Wish::Nothing,
    };
    // Whoever gave it may have gone.
    let _ = order.reply.send(answer);
    wish
}

/// Waits for an order to end at once.
async fn hurry(orders: &mut mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        if let Task::Shutdown(crate::admin::Shutdown::Immediate) = order.task {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// The end of the command, if there is one.
async fn ended(command: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match command {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

fn metrics_listener(settings: &Settings) -> Result<Option<tokio::net::TcpListener>> {
    if settings.metrics_addr.is_empty() {
        return Ok(None);
    }
    let context = || format!("cannot listen on metrics_addr {}", settings.metrics_addr);
    let mut addresses = settings.metrics_addr.to_socket_addrs().with_context(context)?;
    let address = addresses.next().with_context(context)?;
    let listener = listen::tcp(address, settings).with_context(context)?;
    tracing::info!(listener = %address, "metrics");
    Ok(Some(listener))
}

/// Statistics for averages and for the log, every `stats_period`.
async fn keep_statistics(process: Arc<Process>) {
    loop {
        let period = process.front.house().config.settings.stats_period;
        if period.is_zero() {
            tokio::time::sleep(NO_STATISTICS).await;
            continue;
        }
        tokio::time::sleep(period).await;
        process.sampler.tick(&process.front, Instant::now());
        if process.front.house().config.settings.log_stats {
            tracing::info!("{}", process.sampler.log_line());
        }
    }
}
