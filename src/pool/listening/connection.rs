//! Keeps a hub connected for as long as somebody listens, and a while longer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Buf;
use tokio::time::{Instant, sleep, timeout};

use super::core::Change;
use super::hub::{Hub, neighbour};
use crate::config::ListenLost;
use crate::error::{Refusal, SqlState};
use crate::pool::house::Pool;
use crate::pool::limits::{Approval, Membership, Need};
use crate::pool::servers::Servers;
use crate::server::{Connection, Failure, assignments, quote_identifier};
use crate::wire::backend::{self, ErrorFields};
use crate::wire::{scan, store, write};

/// The first pause after an attempt to connect that failed; doubled each time up to `server_login_retry`.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// A connection that is lost sooner than this counts as an attempt that failed.
const LIFE_MIN: Duration = Duration::from_secs(10);
/// How long the connection may take over what it is asked; a server that is stuck would leave listeners in silence.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Why a connection is given up.
enum End {
    /// Nobody needs it any more.
    Unneeded,
    /// Its pool lets go of its servers.
    Severed,
    /// It broke.
    Lost(String),
}

/// Connects, listens, and connects again, until nobody has listened for a while.
pub(super) async fn keep(hub: Arc<Hub>, pool: Weak<Pool<Servers>>) {
    let mut pause = RETRY_MIN;
    loop {
        let Some(house) = pool.upgrade() else { return };
        if !house.is_open() {
            drop(house);
            if gives_up(&hub, &pool, RETRY_MIN).await {
                return;
            }
            continue;
        }
        let membership = house.enlist(neighbour(&hub), &hub.bell);
        drop(house);
        let Some(approval) = approval(&hub, &membership, &pool).await else {
            return;
        };
        let Some(connected) = Connected::begin(&hub, &pool) else {
            continue;
        };
        let began = Instant::now();
        match open(&hub, &pool).await {
            Ok(mut connection) => {
                let end = listen(&hub, &pool, &mut connection).await;
                connection.close();
                drop(connected);
                match end {
                    End::Unneeded => return,
                    End::Severed => part(&hub, &pool),
                    End::Lost(reason) => lose(&hub, &pool, &reason),
                }
            }
            Err(failure) => {
                drop(connected);
                let reason = failure.refusal();
                tracing::warn!(%reason, "cannot connect to listen for clients");
            }
        }
        drop(approval);
        if began.elapsed() >= LIFE_MIN {
            pause = RETRY_MIN;
            continue;
        }
        if gives_up(&hub, &pool, pause).await {
            return;
        }
        let max = pool
            .upgrade()
            .map_or(pause, |pool| pool.source().policy().server_login_retry);
        pause = (pause * 2).min(max.max(RETRY_MIN));
    }
}

/// The time from the first attempt to connect to the end of the connection, for those who wait for that.
struct Connected<'h> {
    hub: &'h Hub,
    pool: Weak<Pool<Servers>>,
}

impl<'h> Connected<'h> {
    /// `None` if the pool lets nobody connect. Whoever shuts it later finds that there is a connection to sever.
    fn begin(hub: &'h Hub, pool: &Weak<Pool<Servers>>) -> Option<Self> {
        hub.connects();
        let connected = Self {
            hub,
            pool: pool.clone(),
        };
        pool.upgrade()?.is_open().then_some(connected)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.hub.is_closed();
        if let Some(pool) = self.pool.upgrade() {
            pool.changed.notify_waiters();
        }
    }
}

/// Permission to have the connection, which counts like any other under the limits that pools share. `None` when nobody
/// needs it any more.
async fn approval(hub: &Arc<Hub>, membership: &Membership, pool: &Weak<Pool<Servers>>) -> Option<Approval> {
    let need = Need {
        held: 0,
        since: Instant::now(),
    };
    loop {
        if let Some(approval) = membership.approve(need) {
            return Some(approval);
        }
        if membership.evict() {
            continue;
        }
        tokio::select! {
            () = hub.bell.rung() => {}
            is_over = gives_up(hub, pool, ANSWER_MAX) => if is_over { return None },
        }
    }
}

/// Waits; tells whether nobody needs the hub then.
async fn gives_up(hub: &Arc<Hub>, pool: &Weak<Pool<Servers>>, pause: Duration) -> bool {
    sleep(pause).await;
    let Some(pool) = pool.upgrade() else { return true };
    pool.source().hubs.retire(hub)
}

async fn open(hub: &Hub, pool: &Weak<Pool<Servers>>) -> Result<Connection, Failure> {
    let gone = || Failure::Lost("its pool is gone".to_owned());
    let target = pool.upgrade().ok_or_else(gone)?.source().target();
    let connected = target.connect().await;
    let mut connection = connected.map_err(|error| Failure::Sql(error.refusal))?;
    let settings = [
        ("client_encoding", &*hub.encoding),
        ("statement_timeout", b"0"),
        ("lock_timeout", b"0"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_vec()));
    connection.run(assignments(&settings)).await?;
    let listen = [b"LISTEN ", &*quote_identifier(hub.channel.as_bytes())].concat();
    connection.run(listen).await?;
    Ok(connection)
}

/// An administrator wants it so, and has been told what becomes of clients; the log of an orderly end has no warning.
fn part(hub: &Hub, pool: &Weak<Pool<Servers>>) {
    let Some(pool) = pool.upgrade() else {
        return hub.lose(None);
    };
    let listeners = hub.core.lock().len();
    tracing::info!(pool = %pool.key(), listeners, "the connection that listens for clients is closed");
    tell(hub, &pool, "its pool has been told to let go of its servers");
}

fn lose(hub: &Hub, pool: &Weak<Pool<Servers>>, reason: &str) {
    let Some(pool) = pool.upgrade() else {
        return hub.lose(None);
    };
    tracing::warn!(pool = %pool.key(), reason, "the connection that listens for clients is lost");
    tell(hub, &pool, reason);
}

/// Those who listen may have missed something from now on.
fn tell(hub: &Hub, pool: &Pool<Servers>, reason: &str) {
    let source = pool.source();
    source.hubs.lost.fetch_add(1, Ordering::Relaxed);
    let message = "terminating connection because the connection that listened for it was lost";
    let refusal = Refusal::new(SqlState::ADMIN_SHUTDOWN, message)
        .detail(reason.to_owned())
        .hint("Notifications may have been missed. listen_lost = \"resume\" goes on all the same.");
    hub.lose((source.policy().listen_lost == ListenLost::Disconnect).then_some(&refusal));
}

/// Listens until the connection has come to its end.
async fn listen(hub: &Arc<Hub>, pool: &Weak<Pool<Servers>>, connection: &mut Connection) -> End {
    let mut unneeded_since = None;
    let mut asked_at = None;
    loop {
        if let Some(change) = hub.core.lock().next_change() {
            write::query(&mut connection.output, &sql(&change));
            asked_at = Some(Instant::now());
        }
        if let Err(error) = connection.stream.drain(&mut connection.output).await {
            return End::Lost(error.to_string());
        }
        if hub.take_severed() {
            return End::Severed;
        }
        let is_needed = hub.core.lock().len() > 0;
        let is_in_the_way = hub.is_in_the_way.load(Ordering::Acquire);
        let linger = match pool.upgrade() {
            Some(pool) if !is_in_the_way => pool.source().policy().server_idle_timeout,
            _ => RETRY_MIN,
        };
        if asked_at.is_none() && hub.core.lock().is_complete() {
            settle(hub, connection);
        }
        let wait = if is_needed || asked_at.is_some() {
            unneeded_since = None;
            ANSWER_MAX
        } else {
            let since = *unneeded_since.get_or_insert_with(Instant::now);
            if !linger.is_zero() && since.elapsed() >= linger {
                if pool.upgrade().is_none_or(|pool| pool.source().hubs.retire(hub)) {
                    return End::Unneeded;
                }
                continue;
            }
            if linger.is_zero() { ANSWER_MAX } else { linger }
        };
        let filled = tokio::select! {
            filled = timeout(wait, connection.stream.fill(&mut connection.input)) => filled,
            () = hub.bell.rung() => continue,
        };
        match filled {
            Ok(Ok(0)) => return End::Lost("server closed the connection unexpectedly".to_owned()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) if asked_at.is_some_and(|at| at.elapsed() >= ANSWER_MAX) => {
                return End::Lost("server does not answer".to_owned());
            }
            Err(_) => continue,
        }
        match hear(hub, connection) {
            Ok(true) => asked_at = None,
            Ok(false) => {}
            Err(reason) => return End::Lost(reason),
        }
        // Those who have got something are to take it before more comes.
        tokio::task::yield_now().await;
    }
}

/// All that is wanted is heard: from now on the hub is up, and clients whose markers were lost with an earlier
/// connection wait for them no longer.
fn settle(hub: &Hub, connection: &Connection) {
    let mut info = hub.info.lock();
    if info.is_some() {
        return;
    }
    *info = Some(connection.info().clone());
    drop(info);
    let mut core = hub.core.lock();
    for (mailbox, number) in core.pass_all() {
        mailbox.pass(number);
    }
    for mailbox in core.mailboxes() {
        mailbox.stir();
    }
}

fn sql(change: &Change) -> Vec<u8> {
    let each = |word: &'static [u8], names: &[Box<[u8]>]| -> Vec<Vec<u8>> {
        names
            .iter()
            .map(|name| [word, &*quote_identifier(name)].concat())
            .collect()
    };
    let mut statements = each(b"LISTEN ", &change.listen);
    statements.extend(each(b"UNLISTEN ", &change.unlisten));
    statements.join(&b";"[..])
}

/// Deals with what has come. Tells whether what was asked for is done.
fn hear(hub: &Hub, connection: &mut Connection) -> Result<bool, String> {
    let mut is_done = false;
    let mut read = 0;
    loop {
        let rest = connection.input.get(read..).unwrap_or_default();
        let Some((header, body)) = scan::message(rest).map_err(|error| error.to_string())? else {
            break;
        };
        match header.tag {
            b'A' => {
                let notification = backend::notification(body).map_err(|error| error.to_string())?;
                let message = rest.get(..header.len).unwrap_or_default();
                hub.hear(notification.channel, notification.payload, message);
            }
            b'E' => {
                let fields = ErrorFields::new(body);
                return Err(fields.text(b'M'));
            }
            b'Z' => {
                let complete = hub.core.lock().changed();
                for mailbox in complete {
                    mailbox.stir();
                }
                is_done = true;
            }
            _ => {}
        }
        read += header.len;
    }
    connection.input.advance(read);
    store::give_back(&mut connection.input);
    Ok(is_done)
}
