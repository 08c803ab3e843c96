//! Users' secrets: those that the configuration holds, and those that a server is asked for (`auth_query`).
//!
//! The question is put on a connection of an ordinary pool, that of `auth_user`, by a task of its own: so it ends in
//! good order whatever becomes of those who wait for it. Nothing that the client has said reaches that connection but
//! its name, as a parameter; and the role that asks is never the role of a session.

use std::sync::Arc;

use tokio::time::Instant;

use crate::auth::StoredSecret;
use crate::config::{CONSOLE_NAMES, Overrides, PoolSettings};
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::net::within;
use crate::pool::{CredentialsState, Dirt, Lease, PoolKey, Servers, Waiter};
use crate::server::{Failure, Row};
use crate::stats::Tally;

use super::credentials::Caller;
use super::secrets::{Find, Known, Place, Question, Secret, Unanswered, Wanted};
use crate::client::front::{Front, House};

/// Rows that are read of an answer: more than one is a mistake.
const ROWS_MAX: u16 = 2;

/// A secret, and how it was come by.
#[derive(Default)]
pub(super) struct Found {
    /// `None` if there is no such user, or nothing that it could prove.
    pub(super) secret: Secret,
    /// Who was asked for, and when; `None` if the configuration said it.
    pub(super) asked: Option<(Wanted, Instant)>,
}

/// What a caller has to prove knowledge of. `is_doubted`: what is remembered may be out of date.
pub(super) async fn secret_of(
    caller: &Caller<'_>,
    front: &Arc<Front>,
    house: &House,
    is_doubted: bool,
) -> Result<Found, Farewell> {
    if let Some(secret) = house.secret(caller.user) {
        return Ok(Found {
            secret: Some(secret.clone()),
            asked: None,
        });
    }
    let Some((place, policy)) = place(caller, house) else {
        return Ok(Found {
            secret: None,
            asked: None,
        });
    };
    let wanted = Wanted {
        place: Arc::new(place),
        user: caller.user.to_owned(),
    };
    let is_doubted = is_doubted || is_out_of_use(caller, front);
    let known = known(&wanted, &policy, front, is_doubted).await;
    let known = known.map_err(|Unanswered| {
        let message = "authentication is not possible at present";
        let refusal = Refusal::new(SqlState::CANNOT_CONNECT_NOW, message);
        Farewell::LoginRefused(
            Denial::Lookup,
            refusal.detail("The server could not be asked for users."),
        )
    })?;
    Ok(Found {
        secret: known.secret,
        asked: Some((wanted, known.at)),
    })
}

/// Where this caller is asked for, and what goes for that; `None`: nowhere.
fn place(caller: &Caller<'_>, house: &House) -> Option<(Place, PoolSettings)> {
    let config = &house.config;
    let is_console = CONSOLE_NAMES.contains(&caller.database);
    let database = (!is_console).then(|| config.database(caller.database)).flatten();
    let none = Overrides::default();
    let own = database.as_ref().map_or(&none, |database| &database.overrides);
    let policy = PoolSettings::resolve(&config.settings, own, &none);
    let database = match policy.auth_dbname.as_str() {
        "" => database?.name.clone(),
        name => name.to_owned(),
    };
    let place = Place {
        database,
        role: policy.auth_user.clone(),
        query: policy.auth_query.clone(),
    };
    (!place.role.is_empty()).then_some((place, policy))
}

/// Whether the server has refused what is known of this caller: perhaps because the secret is another now.
fn is_out_of_use(caller: &Caller<'_>, front: &Front) -> bool {
    let key = PoolKey {
        database: caller.database.to_owned(),
        user: caller.user.to_owned(),
    };
    let pool = front.pools.get(&key);
    pool.is_some_and(|pool| pool.source().credentials() == CredentialsState::Awaited)
}

/// What is known of somebody, if need be after asking.
async fn known(
    wanted: &Wanted,
    policy: &PoolSettings,
    front: &Arc<Front>,
    is_doubted: bool,
) -> Result<Known, Unanswered> {
    loop {
        let found = front
            .secrets
            .lock()
            .find(wanted, policy.auth_query_ttl, is_doubted, Instant::now());
        let mut waiting = match found {
            Find::Known(known) => return Ok(known),
            Find::Wait(waiting) => waiting,
            Find::Ask(question, waiting) => {
                let errand = Errand {
                    front: front.clone(),
                    wanted: wanted.clone(),
                    question: Some(question),
                };
                tokio::spawn(errand.run());
                waiting
            }
        };
        // Without an answer nobody was left to ask on behalf of, at that moment.
        if let Ok(answer) = waiting.wait_for(Option::is_some).await
            && let Some(answer) = answer.clone()
        {
            return answer;
        }
    }
}

/// A question on its way. It is settled even if it comes to nothing.
struct Errand {
    front: Arc<Front>,
    wanted: Wanted,
    question: Option<Question>,
}

impl Errand {
    async fn run(mut self) {
        if let Some(question) = &self.question {
            let answer = ask(&self.front, &self.wanted, question).await;
            self.settle(answer);
        }
    }

    fn settle(&mut self, answer: Option<Result<Known, Unanswered>>) {
        if let Some(question) = self.question.take() {
            self.front.secrets.lock().settle(&self.wanted, &question, answer);
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.settle(None);
    }
}

/// Asks the server; `None` if nobody cares any more before it could be asked. Whatever goes wrong is told to the log
/// alone.
async fn ask(front: &Arc<Front>, wanted: &Wanted, question: &Question) -> Option<Result<Known, Unanswered>> {
    let house = front.house();
    let place = &*wanted.place;
    let Some(database) = house.config.database(&place.database) else {
        return Some(Err(Unanswered));
    };
    let pool = front.pool_for_questions(&house, &database, &place.role);
    let mut waiter = Waiter::new();
    let leased = tokio::select! {
        leased = pool.lease(&mut waiter, 0) => leased,
        () = question.is_idle() => return None,
    };
    let answer = match leased {
        Ok(lease) => ask_server(lease, place, &wanted.user).await,
        Err(error) => Err(error.refusal().to_string()),
    };
    let secret = answer.and_then(|rows| read(&rows, &wanted.user));
    if secret.is_err()
        && !house.config.databases.contains_key(&place.database)
        && pool.snapshot().servers() == 0
    {
        // Strangers may ask for any name: those that lead nowhere are not remembered.
        front.pools.remove(pool.key());
    }
    let known = secret.map_err(|reason| {
        let user = wanted.user.as_str();
        tracing::warn!(pool = %pool.key(), user, reason, "auth_query was not answered");
        Unanswered
    });
    let at = Instant::now();
    Some(known.map(|secret| Known { secret, at }))
}

async fn ask_server(mut lease: Lease<Servers>, place: &Place, user: &str) -> Result<Vec<Row>, String> {
    let limit = lease.pool().source().policy().server_connect_timeout;
    // Nothing that somebody else has set may change what the query means.
    let baseline = lease.baseline.clone();
    let mut is_aligned = false;
    let asked = async {
        lease.align(&baseline).await?;
        is_aligned = true;
        lease.look_up(&place.query, user.as_bytes(), ROWS_MAX).await
    };
    match within(limit, asked).await {
        Ok(Ok(rows)) => {
            lease.release(&mut Tally::default());
            Ok(rows)
        }
        Ok(Err(failure)) => {
            if let Failure::Sql(_) = &failure {
                lease.release(&mut Tally::default());
            }
            Err(failure.refusal().to_string())
        }
        Err(_) => {
            // Else the server would go on for nobody, and so many of these use up all its connections.
            if is_aligned {
                lease.release_dirty(Dirt::Abandoned, &mut Tally::default());
            }
            Err("the server did not answer in time".to_owned())
        }
    }
}

/// The secret in what the server has answered.
fn read(rows: &[Row], user: &str) -> Result<Secret, String> {
    let row = match rows {
        [] => return Ok(None),
        [row] => row,
        _ => return Err("auth_query returned several rows".to_owned()),
    };
    let [name, secret, ..] = row.as_slice() else {
        return Err("auth_query must return two columns: user and secret".to_owned());
    };
    // Whoever logs in is whom the client said it is, and nobody else (CVE-2015-6817).
    if name.as_deref() != Some(user.as_bytes()) {
        return Err("auth_query returned another user".to_owned());
    }
    match secret.as_deref() {
        None | Some([]) => Ok(None),
        Some(secret) => match std::str::from_utf8(secret) {
            Ok(text) => {
                let stored: StoredSecret = text.parse().map_err(|error| format!("secret: {error}"))?;
                Ok(Some(Arc::new(stored)))
            }
            Err(_) => Ok(Some(Arc::new(StoredSecret::plain(secret)))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Row {
        values
            .iter()
            .map(|value| value.map(|text| text.as_bytes().into()))
            .collect()
    }

    fn read_one(values: &[Option<&str>]) -> Result<bool, String> {
        read(&[row(values)], "bob").map(|secret| secret.is_some())
    }

    #[test]
    fn a_row_is_a_user_and_a_secret() {
        assert_eq!(read_one(&[Some("bob"), Some("x")]), Ok(true));
        assert_eq!(read_one(&[Some("bob"), Some("x"), Some("more")]), Ok(true));
        assert_eq!(read_one(&[Some("bob"), None]), Ok(false));
        assert_eq!(read_one(&[Some("bob"), Some("")]), Ok(false));
        assert_eq!(read(&[], "bob").map(|secret| secret.is_some()), Ok(false));
        assert!(read_one(&[Some("bob")]).is_err());
        assert!(
            read(
                &[row(&[Some("bob"), Some("x")]), row(&[Some("bob"), Some("y")])],
                "bob"
            )
            .is_err()
        );
    }

    #[test]
    fn the_user_is_the_one_who_was_asked_for() {
        for other in [Some("alice"), Some("Bob"), Some("bob "), Some(""), None] {
            assert!(read_one(&[other, Some("x")]).is_err(), "{other:?}");
        }
    }

    #[test]
    fn secrets_are_bounded_and_may_be_no_utf8() {
        let verifier = "SCRAM-SHA-256$1000001:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let error = read_one(&[Some("bob"), Some(verifier)]).unwrap_err();
        assert!(error.contains("iteration"), "{error}");
        assert!(!error.contains("AAAA"), "{error}");
        assert_eq!(
            read_one(&[Some("bob"), Some(&verifier.replace("1000001", "4096"))]),
            Ok(true)
        );
        let latin1 = vec![Some(b"bob"[..].into()), Some(b"caf\xe9"[..].into())];
        let secret = read(&[latin1], "bob").unwrap().unwrap();
        assert!(crate::auth::verify_password(&secret, "bob", b"caf\xe9"));
    }
}
