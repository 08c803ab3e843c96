//! The shape of a row of the table of settings, and the macro that makes everything else from the rows.
//!
//! A setting is written once, in [`settings`](super::settings). From there come the fields of `Settings`, the values
//! that a pool runs on, the overrides of databases and users, and [`TABLE`](super::settings::TABLE), which the
//! parsers, `SHOW CONFIG`, `SET`, the sample file and the reference walk over.

use super::settings::{Overrides, Settings};
use super::value::Raw;

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By RELOAD or SET.
    Live,
    /// By the next start.
    Restart,
}

/// Who may have a value of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An entry of `[databases]`.
    Database,
    /// An entry of `[users]`.
    User,
}

impl Scope {
    /// The table of the file that such entries stand in.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Database => "databases",
            Self::User => "users",
        }
    }
}

/// One setting.
pub struct Row {
    /// Its name in `[howdah]`, in `SHOW CONFIG` and, with `HOWDAH_` before it, in the environment.
    pub name: &'static str,
    /// The heading it stands under.
    pub section: &'static str,
    /// The kind of its value, for the reference.
    pub kind: &'static str,
    /// The default, as `SHOW CONFIG` prints it.
    pub default: &'static str,
    /// When a change takes effect.
    pub change: Change,
    /// Who may override it; nobody for most.
    pub scopes: &'static [Scope],
    /// Its name where it is overridden.
    pub local: &'static str,
    /// What it does, in lines that each begin with a blank.
    pub doc: &'static str,
    pub(super) show: fn(&Settings) -> String,
    pub(super) toml: fn(&Settings) -> String,
    pub(super) read: fn(&mut Settings, &Raw) -> Result<(), String>,
    pub(super) read_override: fn(&mut Overrides, &Raw) -> Result<(), String>,
}

/// Makes `Settings`, `Overrides`, `PoolSettings` and `TABLE`. Rows of `process` hold for the process; each row of
/// `pool` is resolved for every pool and says under which name who may override it.
macro_rules! settings {
    (
        process { $($title:literal { $(
            $(#[doc = $doc:literal])+
            $name:ident: $kind:ident($type:ty) = $default:literal, $change:ident;
        )+ })+ }
        pool { $($pool_title:literal { $(
            $(#[doc = $pool_doc:literal])+
            $pool_name:ident: $pool_kind:ident($pool_type:ty) = $pool_default:literal, $pool_change:ident,
                $local:ident in [$($scope:ident)*];
        )+ })+ }
    ) => {
        /// The values of `[howdah]`. A zero duration or count means "off" or "without limit" unless said otherwise.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
            $($($(#[doc = $pool_doc])+ pub $pool_name: $pool_type,)+)+
        }

        impl Default for Settings {
            fn default() -> Self {
                const SOUND: &str = "a test reads every default";
                Self {
                    $($($name: $kind::read(&Raw::text($default)).expect(SOUND),)+)+
                    $($($pool_name: $pool_kind::read(&Raw::text($pool_default)).expect(SOUND),)+)+
                }
            }
        }

        /// What one database or one user has of its own.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Overrides {
            $($($(#[doc = $pool_doc])+ pub $local: Option<$pool_type>,)+)+
        }

        /// What one pool runs on: the user's value, or else the database's, or else that of `[howdah]`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct PoolSettings {
            $($($(#[doc = $pool_doc])+ pub $local: $pool_type,)+)+
        }

        impl PoolSettings {
            /// Takes each value from the first that has one: user, database, settings.
            pub fn resolve(settings: &Settings, database: &Overrides, user: &Overrides) -> Self {
                Self {
                    $($($local: user.$local.as_ref().or(database.$local.as_ref())
                        .unwrap_or(&settings.$pool_name).clone(),)+)+
                }
            }
        }

        /// Every setting there is.
        pub static TABLE: &[Row] = &[
            $($(Row {
                name: stringify!($name),
                section: $title,
                kind: $kind::WORD,
                default: $default,
                change: Change::$change,
                scopes: &[],
                local: stringify!($name),
                doc: concat!($($doc, "\n"),+),
                show: |settings| $kind::show(&settings.$name),
                toml: |settings| $kind::toml(&settings.$name),
                read: |settings, raw| $kind::read(raw).map(|value| settings.$name = value),
                read_override: |_, _| Err("cannot be overridden".to_owned()),
            },)+)+
            $($(Row {
                name: stringify!($pool_name),
                section: $pool_title,
                kind: $pool_kind::WORD,
                default: $pool_default,
                change: Change::$pool_change,
                scopes: &[$(Scope::$scope),*],
                local: stringify!($local),
                doc: concat!($($pool_doc, "\n"),+),
                show: |settings| $pool_kind::show(&settings.$pool_name),
                toml: |settings| $pool_kind::toml(&settings.$pool_name),
                read: |settings, raw| $pool_kind::read(raw).map(|value| settings.$pool_name = value),
                read_override: |overrides, raw| $pool_kind::read(raw).map(|value| overrides.$local = Some(value)),
            },)+)+
        ];
    };
}

pub(super) use settings;
