//! Carrying out what an administrator asks for.

use std::sync::Arc;
use std::time::Duration;

use super::Console;
use super::command::Command;
use super::order::{Answer, Task, give};
use crate::client::Order;
use crate::config::CONSOLE_NAMES;
use crate::error::{Refusal, SqlState};
use crate::pool::{Pool, Servers};

/// How often somebody who waits for the end of PAUSE looks whether it has been taken back meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Nothing went wrong, and there is nothing to remark.
const DONE: Answer = Ok(Vec::new());

/// Carries out a command that is not answered with rows. May be dropped at any await; what has been done stays.
pub(super) async fn act(console: &Console, command: &Command) -> Answer {
    match command {
        Command::Reload => give(&console.orders, Task::Reload).await,
        Command::Shutdown(how) => give(&console.orders, Task::Shutdown(*how)).await,
        Command::Set { name, value } => {
            let (name, value) = (name.clone(), value.clone());
            give(&console.orders, Task::Set { name, value }).await
        }
        Command::Pause(database) => pause(console, database.as_deref()).await,
        Command::Resume(database) => resume(console, database.as_deref()),
        Command::Reconnect(database) => {
            for pool in pools(console, database.as_deref())? {
                pool.reconnect();
            }
            DONE
        }
        Command::Kill(database) => kill(console, database.as_deref()),
        Command::KillClient(id) => kill_client(console, *id),
        Command::WaitClose(database) => {
            for pool in pools(console, database.as_deref())? {
                pool.wait_close().await;
            }
            DONE
        }
        Command::Disable(database) => set_disabled(console, database, true),
        Command::Enable(database) => set_disabled(console, database, false),
        Command::Unsupported { word, hint } => Err(Refusal::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("{word} is not supported"),
        )
        .hint(*hint)),
        Command::Show(_)
        | Command::Help
        | Command::Ask(_)
        | Command::Begin(_)
        | Command::End(_)
        | Command::Harmless(_)
        | Command::Deallocate(_) => DONE,
    }
}

/// Refuses names that no client could ask for.
fn check(console: &Console, database: &str) -> Result<(), Refusal> {
    if CONSOLE_NAMES.contains(&database) {
        return Err(Refusal::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            format!("database \"{database}\" is the console, which has no servers"),
        ));
    }
    match console.front.house().config.database(database) {
        Some(_) => Ok(()),
        None => Err(Refusal::new(
            SqlState::INVALID_CATALOG_NAME,
            format!("database \"{database}\" does not exist"),
        )
        .hint("SHOW DATABASES has those that do. A name without quotes is taken as it is written.")),
    }
}

/// The pools of a database, or all of them.
fn pools(console: &Console, database: Option<&str>) -> Result<Vec<Arc<Pool<Servers>>>, Refusal> {
    let registry = &console.front.pools;
    match database {
        None => Ok(registry.all()),
        Some(name) => check(console, name).map(|()| registry.of_database(name)),
    }
}

fn not_paused(database: Option<&str>) -> Refusal {
    let message = match database {
        None => "nothing is paused".to_owned(),
        Some(name) => format!("database \"{name}\" is not paused"),
    };
    Refusal::new(SqlState::NOT_IN_PREREQUISITE_STATE, message)
}

async fn pause(console: &Console, database: Option<&str>) -> Answer {
    if let Some(name) = database {
        check(console, name)?;
    }
    console.front.hold(database);
    let pools = pools(console, database)?;
    for pool in &pools {
        pool.pause();
    }
    for pool in &pools {
        let left = || async {
            pool.emptied().await;
            pool.parted().await;
        };
        while tokio::time::timeout(LOOK_AGAIN, left()).await.is_err() {
            if !console.front.is_paused(&pool.key().database) {
                return Err(not_paused(database).detail("Another session has resumed it meanwhile."));
            }
        }
    }
    DONE
}

fn resume(console: &Console, database: Option<&str>) -> Answer {
    if let Some(name) = database {
        check(console, name)?;
    }
    if !console.front.release(database) {
        let refusal = not_paused(database);
        return Err(if console.front.is_all_paused() {
            refusal.hint("Everything is paused; RESUME without a name ends that.")
        } else {
            refusal
        });
    }
    for pool in pools(console, database)? {
        if !console.front.is_paused(&pool.key().database) {
            pool.resume();
        }
    }
    DONE
}

fn killed() -> Refusal {
    Refusal::new(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}

/// As in `PgBouncer`, new clients wait until RESUME.
fn kill(console: &Console, database: Option<&str>) -> Answer {
    if let Some(name) = database {
        check(console, name)?;
    }
    console.front.hold(database);
    let order = Order::Kill(killed());
    console.front.clients.order_all(&order, |client| {
        database.is_none_or(|name| &*client.database == name)
    });
    for pool in pools(console, database)? {
        pool.kill(killed());
    }
    DONE
}

fn kill_client(console: &Console, id: u64) -> Answer {
    let clients = console.front.clients.all();
    match clients.iter().find(|client| client.id == id) {
        Some(client) => {
            client.order(Order::Kill(killed()));
            DONE
        }
        None => Err(Refusal::new(
            SqlState::UNDEFINED_OBJECT,
            format!("there is no client {id}"),
        )),
    }
}

fn set_disabled(console: &Console, database: &str, disabled: bool) -> Answer {
    check(console, database)?;
    console.front.set_disabled(database, disabled);
    DONE
}
