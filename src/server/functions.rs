//! Which functions of a database may do anything, by its catalogs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::plans::PlansKeep;
use super::{Connection, Failure};
use crate::net::within;
use crate::sql::{Effects, Functions, Volatility, hidden_effects};

/// So many settings that functions set are remembered.
const CUSTOMS_MAX: usize = 256;

/// Functions that others make unseen count as unknown after this time at the latest.
const FRESH: Duration = Duration::from_secs(60);
/// The catalogs are not read more often than this, whatever unknown names are called.
const PAUSE: Duration = Duration::from_secs(1);

/// Functions by bare name, and whether one of that name may do anything: it is volatile, or it calls one that is by what its
/// definition says: an aggregate's parts, and the defaults of arguments. PostgreSQL's own are known to the classifier, but
/// for those that others call in this way. Defaults of more than 64 kB are not looked at and may call anything:
/// `octet_length` does not unpack them, so that one function cannot take up the time for all.
const VOLATILE: &[u8] = b"SELECT proname,pg_catalog.bool_or((provolatile OPERATOR(pg_catalog.=) 'v' \
AND pronamespace OPERATOR(pg_catalog.<>) 11) \
OR (proargdefaults IS NOT NULL AND pg_catalog.octet_length(proargdefaults::pg_catalog.text) OPERATOR(pg_catalog.>) 65536) \
OR oid OPERATOR(pg_catalog.=) ANY (SELECT caller FROM (\
SELECT aggfnoid::pg_catalog.oid AS caller,pg_catalog.unnest(ARRAY[aggtransfn,aggfinalfn,aggcombinefn,\
aggserialfn,aggdeserialfn,aggmtransfn,aggminvtransfn,aggmfinalfn])::pg_catalog.oid AS callee \
FROM pg_catalog.pg_aggregate UNION ALL SELECT oid,found[1]::pg_catalog.oid FROM pg_catalog.pg_proc,\
pg_catalog.regexp_matches(CASE WHEN pg_catalog.octet_length(proargdefaults::pg_catalog.text) OPERATOR(pg_catalog.<=) 65536 \
THEN proargdefaults::pg_catalog.text END,':(?:op)?funcid ([0-9]+)','g') AS found) AS calls \
WHERE callee OPERATOR(pg_catalog.=) ANY (SELECT oid FROM pg_catalog.pg_proc WHERE provolatile OPERATOR(pg_catalog.=) 'v' \
AND (pronamespace OPERATOR(pg_catalog.<>) 11 \
OR proname OPERATOR(pg_catalog.~) '^(set_config$|pg_(try_)?advisory_lock)')))) FROM pg_catalog.pg_proc GROUP BY proname";
/// The custom settings that the bodies of volatile functions set by name. Anybody who may create a function may make one
/// whose body is nothing but such names, so there are bounds on what is looked at, and on what each contributes. To cut a
/// body is to unpack it, so those of more than 256 kB are left alone: they count among [`HIDING`].
const CUSTOMS: &[u8] = b";SELECT pg_catalog.lower(pg_catalog.translate(names.found,'\"','')) FROM (\
SELECT body FROM (SELECT CASE WHEN pg_catalog.octet_length(prosrc) OPERATOR(pg_catalog.<=) 262144 \
THEN pg_catalog.left(prosrc,16384) END AS body FROM pg_catalog.pg_proc \
WHERE provolatile OPERATOR(pg_catalog.=) 'v' AND pronamespace OPERATOR(pg_catalog.<>) 11) AS beginning \
WHERE body OPERATOR(pg_catalog.~~*) '%set%' LIMIT 1000) AS setter,\
LATERAL (SELECT DISTINCT found[1] AS found FROM pg_catalog.regexp_matches(body,\
'(?:set_config[[:space:]]*[(][[:space:]]*''|set[[:space:]]+(?:session[[:space:]]+|local[[:space:]]+)?)\
(\"?[a-z_][a-z0-9_$]*(?:\"?[.]\"?[a-z_][a-z0-9_$]*)+)','gi') AS found LIMIT 32) AS names LIMIT 1024";

/// Volatile functions that may leave what no question finds (`sql::hidden_effects`), their languages and bodies; none where
/// that is too long.
const HIDING: &[u8] = b";SELECT proname,\
CASE WHEN body IS NOT NULL THEN pg_catalog.concat('language ',lanname,':',body) END FROM (SELECT proname,lanname,\
CASE WHEN pg_catalog.octet_length(prosrc) OPERATOR(pg_catalog.<=) 262144 THEN pg_catalog.left(prosrc,16384) END AS body \
FROM pg_catalog.pg_proc JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) prolang \
WHERE pronamespace OPERATOR(pg_catalog.<>) ALL (SELECT oid FROM pg_catalog.pg_namespace \
WHERE nspname OPERATOR(pg_catalog.~) '^pg_temp_') AND provolatile OPERATOR(pg_catalog.=) 'v' \
AND pronamespace OPERATOR(pg_catalog.<>) 11) AS f WHERE body IS NULL OR body OPERATOR(pg_catalog.~*) \
'set_config|[''$;][[:space:]]*set[[:space:]]|dblink_|_backup|replication_origin_session|load[[:space:]]+''|[[:<:]](alter|create)[[:>:]]' \
OR (lanname OPERATOR(pg_catalog.~) '^pl(perl|py|tcl|v8|r)' AND body OPERATOR(pg_catalog.~) \
'_SHARED|main::|[GS]D|global|variable|<<-|assign') LIMIT 1000";
/// Volatile functions in whose bodies one of the names stands that come behind this, with `|` between them.
const CALLERS: &[u8] = b"SET LOCAL statement_timeout=1000;SELECT DISTINCT proname FROM pg_catalog.pg_proc \
WHERE provolatile OPERATOR(pg_catalog.=) 'v' AND pronamespace OPERATOR(pg_catalog.<>) 11 \
AND CASE WHEN pg_catalog.octet_length(prosrc) OPERATOR(pg_catalog.<=) 262144 THEN pg_catalog.left(prosrc,16384) END \
OPERATOR(pg_catalog.~*) '[[:<:]](";
const BEHIND_CALLERS: &[u8] = b")[[:>:]]' LIMIT 100";
/// So many names are looked for at once.
const CALLERS_MAX: usize = 100;

/// How long each of these may take, in milliseconds. The last takes 1.7 s for 20,000 functions of 2 kB.
const PATIENCE: &[u8] = b"SET LOCAL statement_timeout=5000;";

/// How long one reading may take; it has four statements.
const READING_MAX: Duration = Duration::from_secs(30);
/// How long one client waits for what others find; then it goes on with nothing known.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long after a reading that has failed nobody tries again; twice as long each time.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
const AFTER_FAILURE_MAX: Duration = Duration::from_secs(3600);
/// How often the catalogs are read for one client, should others change functions meanwhile.
const READINGS_MAX: usize = 3;

/// The functions of one database, by bare name, as they were when somebody last looked.
#[derive(Debug, Default)]
pub struct FunctionTable {
    current: ArcSwapOption<Known>,
    /// Grows whenever what was known may have become wrong.
    version: AtomicU64,
    /// Held by whoever changes the two.
    changing: Mutex<()>,
    /// Held by whoever reads the catalogs: the others wait for what it finds.
    readings: tokio::sync::Mutex<Readings>,
}

/// How readings have gone.
#[derive(Debug, Default)]
struct Readings {
    /// Since when they fail, and how long nobody tries again.
    failed: Option<(Instant, Duration)>,
}

impl Readings {
    fn may_begin(&self) -> bool {
        self.failed.is_none_or(|(at, pause)| at.elapsed() >= pause)
    }

    fn have_failed(&mut self) {
        let pause = self.failed.map_or(AFTER_FAILURE, |(_, pause)| pause * 2);
        self.failed = Some((Instant::now(), pause.min(AFTER_FAILURE_MAX)));
    }
}

#[derive(Debug)]
struct Known {
    /// Whether a function of this name may do anything.
    is_volatile: HashMap<Box<[u8]>, bool>,
    /// The custom settings that they set.
    customs: Vec<Box<[u8]>>,
    /// Functions that leave what no question finds, and what that is.
    hiding: Vec<(Box<[u8]>, Effects)>,
    plans: PlansKeep,
    read_at: Instant,
}

/// Whether the name that stands there is no part of a longer one.
fn is_whole_word(text: &[u8], at: usize, len: usize) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    !before.into_iter().chain(text.get(at + len)).any(is_word)
}

impl FunctionTable {
    /// Tells apart what was concluded from different states of the table; from 1.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire) + 1
    }

    /// The catalogs have changed.
    pub fn forget(&self) {
        let _changing = self.changing.lock();
        self.change(None);
    }

    /// What is known comes first: who still sees the old version may have concluded from either, and has to look again.
    fn change(&self, known: Option<Arc<Known>>) {
        self.current.store(known);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes in what the catalogs said after `version` had been seen. If that was before they changed, it is worth nothing.
    fn learn(&self, version: u64, known: Known) {
        let _changing = self.changing.lock();
        if self.version() == version {
            self.change(Some(Arc::new(known)));
        }
    }

    /// Forgets what has been known for so long that others may have changed it unseen.
    pub fn forget_old(&self) {
        let is_old = |known: &Arc<Known>| known.read_at.elapsed() >= FRESH;
        if self.current.load().as_ref().is_some_and(is_old) {
            self.forget();
        }
    }

    /// Whether it is worth reading the catalogs because of a name that nobody knows.
    pub fn wants_reading(&self) -> bool {
        let known = self.current.load();
        known
            .as_ref()
            .is_none_or(|known| known.read_at.elapsed() >= PAUSE)
    }

    /// Whether nothing is known at all.
    pub fn is_unread(&self) -> bool {
        self.current.load().is_none()
    }

    /// The custom settings that functions of the database set by name, as far as their bodies tell.
    pub fn customs(&self) -> Vec<Box<[u8]>> {
        let known = self.current.load();
        known
            .as_ref()
            .map(|known| known.customs.clone())
            .unwrap_or_default()
    }

    /// What the functions leave, and no question finds, whose names a text has.
    pub fn hidden_effects(&self, text: &[u8]) -> Effects {
        let known = self.current.load();
        let Some(known) = known.as_ref().filter(|known| !known.hiding.is_empty()) else {
            return Effects::NONE;
        };
        let folded = text.to_ascii_lowercase();
        let is_in = |text: &[u8], name: &[u8]| {
            memchr::memmem::find_iter(text, name).any(|at| is_whole_word(text, at, name.len()))
        };
        let named = known.hiding.iter();
        union(named.filter(|(name, _)| is_in(text, name) || is_in(&folded, name)))
    }

    /// What all functions leave that no question finds.
    pub fn all_hidden_effects(&self) -> Effects {
        let known = self.current.load();
        known.as_ref().map_or(Effects::NONE, |known| union(&known.hiding))
    }

    /// What plans keep where these functions are; everything, if nobody knows them.
    pub fn plans_keep(&self) -> PlansKeep {
        let known = self.current.load();
        known.as_ref().map_or(PlansKeep::EVERYTHING, |known| known.plans)
    }

    /// Reads the catalogs if that `is_wanted` when nobody else does so any more. Nothing else may be in flight on the
    /// connection, and no transaction open. What cannot be read is not known, which is no failure, nor is it one to wait for
    /// others for too long.
    pub async fn read(
        &self,
        connection: &mut Connection,
        is_wanted: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let Ok(mut readings) = within(WAIT_MAX, self.readings.lock()).await else {
            return Ok(());
        };
        if !readings.may_begin() || !is_wanted() {
            return Ok(());
        }
        for _ in 0..READINGS_MAX {
            let Ok(read) = within(READING_MAX, self.read_once(connection)).await else {
                readings.have_failed();
                return Err(Failure::Lost("the server did not answer in time".to_owned()));
            };
            match read {
                Ok(()) => readings.failed = None,
                Err(Failure::Sql(_)) => {
                    // A client's cancel request may have hit it, which says nothing of the next one.
                    if connection.info().cancels.load(Ordering::Acquire) == 0 {
                        readings.have_failed();
                    }
                    return Ok(());
                }
                Err(lost @ Failure::Lost(_)) => return Err(lost),
            }
            // What was read while somebody changed them is worth nothing.
            if !self.is_unread() {
                break;
            }
        }
        Ok(())
    }

    async fn read_once(&self, connection: &mut Connection) -> Result<(), Failure> {
        let version = self.version();
        let mut results = connection
            .query_in_peace(&[PATIENCE, VOLATILE, CUSTOMS, HIDING].concat())
            .await?
            .into_iter();
        let pair = |mut row: Vec<Option<Box<[u8]>>>| {
            let is_volatile = row.pop()?.as_deref() == Some(b"t");
            Some((row.pop()??, is_volatile))
        };
        let is_volatile = results.next().into_iter().flatten().filter_map(pair).collect();
        let customs = results.next().into_iter().flatten();
        let customs = customs.filter_map(|mut row| row.pop()?);
        let hiding = results.flatten().filter_map(|mut row| {
            let effects = row.pop()?.map_or(HIDDEN, |body| hidden_effects(&body));
            row.pop()?
                .map(|name| (name, effects))
                .filter(|_| !effects.is_empty())
        });
        let mut hiding: Vec<_> = hiding.collect();
        add_callers(&mut hiding, connection).await?;
        let customs: BTreeSet<_> = customs.collect();
        let known = Known {
            is_volatile,
            customs: customs.into_iter().take(CUSTOMS_MAX).collect(),
            hiding,
            plans: PlansKeep::read(connection).await?,
            read_at: Instant::now(),
        };
        self.learn(version, known);
        Ok(())
    }
}

/// What a function may leave whose body is too long to be looked at.
const HIDDEN: Effects = Effects::COMPUTED.union(Effects::STICKY).union(Effects::DEFINES);
/// So many functions that call each other are gone through.
const CALLERS_DEPTH: usize = 3;

fn union<'n>(named: impl IntoIterator<Item = &'n (Box<[u8]>, Effects)>) -> Effects {
    let effects = named.into_iter().map(|(_, effects)| *effects);
    effects.fold(Effects::NONE, Effects::union)
}

/// Adds who calls what leaves what can neither be seen nor undone: nearly nobody. Where that takes too long they stay unknown.
async fn add_callers(
    hiding: &mut Vec<(Box<[u8]>, Effects)>,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let mut known = 0;
    for _ in 0..CALLERS_DEPTH {
        let is_plain = |name: &[u8]| {
            name.iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        let new = hiding
            .iter()
            .skip(known)
            .filter(|(name, effects)| effects.contains(Effects::STICKY) && is_plain(name));
        let names: Vec<&[u8]> = new.map(|(name, _)| &**name).take(CALLERS_MAX).collect();
        if names.is_empty() {
            break;
        }
        let query = [CALLERS, &names.join(&b'|'), BEHIND_CALLERS].concat();
        let callers = match connection.query_in_peace(&query).await {
            Ok(results) => results,
            Err(Failure::Sql(_)) => break,
            Err(lost @ Failure::Lost(_)) => return Err(lost),
        };
        known = hiding.len();
        for name in callers.into_iter().flatten().flatten().flatten() {
            if !hiding
                .iter()
                .any(|(have, effects)| *have == name && effects.contains(Effects::STICKY))
            {
                hiding.push((name, Effects::STICKY));
            }
        }
    }
    Ok(())
}

impl Functions for FunctionTable {
    fn volatility(&self, name: &[u8]) -> Volatility {
        let known = self.current.load();
        match known.as_ref().map(|known| known.is_volatile.get(name)) {
            Some(Some(true)) => Volatility::Volatile,
            Some(Some(false)) => Volatility::Harmless,
            Some(None) => Volatility::Absent,
            None => Volatility::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harmless(name: &str) -> Known {
        Known {
            is_volatile: HashMap::from([(name.as_bytes().into(), false)]),
            customs: Vec::new(),
            hiding: Vec::new(),
            plans: PlansKeep::EVERYTHING,
            read_at: Instant::now(),
        }
    }

    #[test]
    fn what_was_read_before_the_catalogs_changed_is_not_believed_afterwards() {
        let table = FunctionTable::default();
        let before = table.version();
        table.forget();
        let changed = table.version();
        table.learn(before, harmless("f"));
        assert!(table.is_unread());
        assert_eq!(table.version(), changed);

        table.learn(changed, harmless("f"));
        assert_eq!(table.volatility(b"f"), Volatility::Harmless);
        assert_ne!(table.version(), changed);
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_fail_become_rarer() {
        let mut readings = Readings::default();
        assert!(readings.may_begin());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            readings.have_failed();
            tokio::time::advance(Duration::from_secs(60 * minutes - 1)).await;
            assert!(!readings.may_begin(), "{minutes}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(readings.may_begin(), "{minutes}");
        }
    }
}
