//! What the statements of a simulated session do.

use super::session::{Fault, Prepared, Session};
use super::sql::{Select, Setting, Statement, Tag, parse};
use crate::wire::write;

impl Session {
    /// Carries out a statement, rows and completion included.
    pub(super) fn execute(
        &mut self,
        statement: Statement,
        parameter: Option<&str>,
        is_simple: bool,
    ) -> Result<(), Fault> {
        if let Some(fault) = self.inject.take() {
            return Err(fault);
        }
        self.is_well(&statement, is_simple)?;
        let tag = match statement {
            Statement::Empty => {
                write::empty(&mut self.output, b'I');
                return Ok(());
            }
            Statement::Begin | Statement::Commit | Statement::Rollback => self.transaction(&statement),
            Statement::Select(select) => self.select(&select, parameter, is_simple)?,
            Statement::Insert(token) => {
                self.is_used_by(&token);
                self.pending.push(token);
                "INSERT 0 1".to_owned()
            }
            Statement::CopyIn(_) => return Err(Fault::new(*b"0A000", "not in this protocol")),
            Statement::CopyOut(token) => self.copy_out(&token),
            Statement::Set(settings, tag) => self.set(&settings, tag, is_simple)?,
            Statement::Detour(_) => {
                let back = std::mem::take(&mut self.way_back);
                self.set(&back, Tag::Select, is_simple)?
            }
            Statement::ResetAll => {
                self.settings.reset_all();
                "RESET".to_owned()
            }
            Statement::Show(_)
            | Statement::IdleLimit
            | Statement::EverySetting
            | Statement::State
            | Statement::NoNames
            | Statement::SqlNames
            | Statement::Channels
            | Statement::UnlockAll => self.tell(&statement, is_simple),
            Statement::Execute(name, parameter) => {
                let text = self.statement(&name)?;
                let statement = parse(&text).ok_or_else(|| Fault::new(*b"42601", "syntax error"))?;
                return self.execute(statement, parameter.as_deref(), is_simple);
            }
            other => self.change(other)?.to_owned(),
        };
        write::command_complete(&mut self.output, tag.as_bytes());
        Ok(())
    }

    /// PostgreSQL may have no memory for what howdah asks, as for anything. What it asks among a client's requests, in the
    /// extended protocol, would fail these with it.
    fn is_well(&mut self, statement: &Statement, is_simple: bool) -> Result<(), Fault> {
        let asks = matches!(
            statement,
            Statement::EverySetting | Statement::State | Statement::Show(_) | Statement::Set(_, Tag::Select)
        );
        let is_howdahs = asks && is_simple;
        let Some((times, dice)) = self.whims.as_mut().filter(|_| is_howdahs) else {
            return Ok(());
        };
        if dice.one_in(*times) {
            return Err(Fault::new(*b"53200", "out of memory"));
        }
        Ok(())
    }

    fn transaction(&mut self, statement: &Statement) -> String {
        match statement {
            Statement::Begin => {
                self.status = b'T';
                "BEGIN"
            }
            Statement::Commit if self.status != b'E' => {
                self.commit();
                "COMMIT"
            }
            _ => {
                self.undo();
                self.commit();
                "ROLLBACK"
            }
        }
        .to_owned()
    }

    fn select(&mut self, select: &Select, parameter: Option<&str>, is_simple: bool) -> Result<String, Fault> {
        if let Some(table) = select.table.as_ref().filter(|table| !self.temp.contains(*table)) {
            return Err(Fault::new(
                *b"42P01",
                format!("relation \"{table}\" does not exist"),
            ));
        }
        match select.lock {
            Some((lock, true)) => {
                self.locks.insert(lock);
            }
            Some((lock, false)) => {
                self.locks.remove(&lock);
            }
            None => {}
        }
        let row = self.answer(&select.token, parameter);
        if is_simple {
            self.describe_rows(1);
        }
        if select.fails {
            return Err(Fault::new(*b"22012", "division by zero"));
        }
        (0..select.rows).for_each(|_| self.row(&[Some(&row)]));
        Ok(format!("SELECT {}", select.rows))
    }

    fn copy_out(&mut self, token: &str) -> String {
        let line = format!("{}\n", self.answer(token, None));
        write::message(&mut self.output, b'H', |out| {
            out.extend_from_slice(&[0, 0, 1, 0, 0]);
        });
        for _ in 0..20 {
            write::message(&mut self.output, b'd', |out| {
                out.extend_from_slice(line.as_bytes());
            });
        }
        write::empty(&mut self.output, b'c');
        "COPY 20".to_owned()
    }

    fn set(&mut self, settings: &[Setting], tag: Tag, is_simple: bool) -> Result<String, Fault> {
        let mut values = Vec::new();
        for setting in settings {
            let asks_first = tag == Tag::Select && setting.is_local && setting.value.is_none();
            if asks_first && self.settings.get(&setting.name).is_none() {
                values.push(None);
                continue;
            }
            let done = self.settings.set(setting);
            done.map_err(|(code, message)| Fault::new(*code, message))?;
            values.push(self.settings.get(&setting.name).map(str::to_owned));
        }
        Ok(match tag {
            Tag::Set => "SET".to_owned(),
            Tag::Reset => "RESET".to_owned(),
            Tag::Select => {
                self.rows(is_simple, values.len(), vec![values]);
                "SELECT 1".to_owned()
            }
        })
    }

    /// The first row of a detour.
    pub(super) fn leave(&mut self, there: &[Setting]) -> Result<(), Fault> {
        let had = there.iter().map(|setting| Setting {
            value: self.settings.get(&setting.name).map(str::to_owned),
            ..setting.clone()
        });
        self.way_back = had.collect();
        self.set(there, Tag::Select, false)?;
        write::empty(&mut self.output, b's');
        Ok(())
    }

    fn rows(&mut self, is_simple: bool, columns: usize, rows: Vec<Vec<Option<String>>>) {
        if is_simple {
            self.describe_rows(columns as u16);
        }
        for row in rows {
            let row: Vec<_> = row.iter().map(Option::as_deref).collect();
            self.row(&row);
        }
    }

    /// The answers to howdah's questions.
    fn tell(&mut self, statement: &Statement, is_simple: bool) -> String {
        let own = |text: &str| Some(text.to_owned());
        // Settings are told with escapes.
        let told = |text: &str| text.replace('\\', "\\\\");
        let flag = |is: bool| own(if is { "t" } else { "f" });
        let (columns, rows) = match statement {
            Statement::Show(names) => {
                let values = names.iter().map(|name| self.settings.get(name).map(told));
                (names.len(), vec![values.collect()])
            }
            Statement::IdleLimit => (3, vec![vec![own("0"), own("0"), None]]),
            Statement::EverySetting => {
                let pairs = self.settings.of_session();
                (
                    3,
                    pairs
                        .map(|(name, value)| vec![own(name), Some(told(value)), flag(true)])
                        .collect(),
                )
            }
            Statement::State => {
                let (temp, locks) = (!self.temp.is_empty(), !self.locks.is_empty());
                (4, vec![vec![flag(false), flag(temp), flag(locks), flag(false)]])
            }
            Statement::SqlNames => {
                let own_names = self.statements.iter().filter(|(_, prepared)| prepared.is_sql);
                (1, own_names.map(|(name, _)| vec![own(name)]).collect())
            }
            Statement::Channels => {
                let channels = self.channels.iter();
                (1, channels.map(|name| vec![own(name)]).collect())
            }
            Statement::UnlockAll => {
                self.locks.clear();
                (1, vec![vec![own("")]])
            }
            _ => (1, Vec::new()),
        };
        let tag = format!("SELECT {}", rows.len());
        self.rows(is_simple, columns, rows);
        tag
    }

    /// Statements that change what a session has beside settings.
    fn change(&mut self, statement: Statement) -> Result<&'static str, Fault> {
        Ok(match statement {
            Statement::CreateTemp(name) => {
                if !self.temp.insert(name.clone()) {
                    return Err(Fault::new(
                        *b"42P07",
                        format!("relation \"{name}\" already exists"),
                    ));
                }
                "CREATE TABLE"
            }
            Statement::DropTable(name) => {
                if !self.temp.remove(&name) {
                    return Err(Fault::new(*b"42P01", format!("table \"{name}\" does not exist")));
                }
                "DROP TABLE"
            }
            Statement::DiscardTemp => {
                self.temp.clear();
                "DISCARD TEMP"
            }
            Statement::DiscardAll if self.status != b'I' => {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(Fault::new(*b"25001", message));
            }
            Statement::DiscardAll => {
                self.temp.clear();
                self.channels.clear();
                self.locks.clear();
                self.statements.clear();
                self.settings.reset_all();
                self.settings.reset_role();
                "DISCARD ALL"
            }
            Statement::Prepare(name, text) => {
                self.prepare(name, Prepared { text, is_sql: true })?;
                "PREPARE"
            }
            Statement::Deallocate(None) => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            Statement::Deallocate(Some(name)) => {
                if self.statements.remove(&name).is_none() {
                    let message = format!("prepared statement \"{name}\" does not exist");
                    return Err(Fault::new(*b"26000", message));
                }
                "DEALLOCATE"
            }
            Statement::Listen(channel) => {
                self.channels.insert(channel);
                "LISTEN"
            }
            Statement::Unlisten(channel) => {
                match channel {
                    Some(channel) => _ = self.channels.remove(&channel),
                    None => self.channels.clear(),
                }
                "UNLISTEN"
            }
            Statement::Nothing(tag) => tag,
            _ => "",
        })
    }
}
