//! What the console asks of the process itself. It is carried out by `app`, which listens at the other end.

use tokio::sync::{mpsc, oneshot};

use crate::error::{Refusal, SqlState};

/// Something for the process to do, and where its answer goes.
#[derive(Debug)]
pub struct Order {
    /// What to do.
    pub task: Task,
    /// Where to say how it went. Nobody may be listening any more.
    pub reply: oneshot::Sender<Answer>,
}

/// What the process is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Read the configuration again.
    Reload,
    /// End, in this manner. The answer may come before the end.
    Shutdown(Shutdown),
    /// Change one setting.
    Set {
        /// Its name.
        name: String,
        /// What was written for a value; `None` for the default.
        value: Option<String>,
    },
}

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once.
    Immediate,
    /// When all transactions have ended.
    WaitForServers,
    /// When all clients have left.
    WaitForClients,
}

/// Notices for whoever gave the order, or why it was not carried out.
pub type Answer = Result<Vec<String>, Refusal>;

/// Gives an order and waits for the answer.
pub(super) async fn give(orders: &mpsc::Sender<Order>, task: Task) -> Answer {
    let (reply, answer) = oneshot::channel();
    let gone = || Refusal::new(SqlState::ADMIN_SHUTDOWN, "howdah is shutting down");
    let sent = orders.send(Order { task, reply }).await;
    sent.map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}
