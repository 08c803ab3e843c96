//! Words before an opening parenthesis that are no function's name ("SQL Key Words" in PostgreSQL's manual).

use super::identifier::NAME_LEN_MAX;

/// What a word without quotes and without a schema is before an opening parenthesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Always syntax: reserved, or reserved as the name of a function, in every version since 13.
    Syntax,
    /// Syntax in some places or in some versions, a function's name in others.
    Either,
    /// A function's name.
    Name,
}

/// The role of a word in lower case.
pub(super) fn role(word: &[u8]) -> Role {
    match word {
        // Reserved.
        b"all" | b"analyse" | b"analyze" | b"and" | b"any" | b"array" | b"as" | b"asc" | b"asymmetric"
        | b"both" | b"case" | b"cast" | b"check" | b"collate" | b"column" | b"constraint" | b"create"
        | b"current_catalog" | b"current_date" | b"current_role" | b"current_time" | b"current_timestamp"
        | b"current_user" | b"default" | b"deferrable" | b"desc" | b"distinct" | b"do" | b"else" | b"end"
        | b"except" | b"false" | b"fetch" | b"for" | b"foreign" | b"from" | b"grant" | b"group" | b"having"
        | b"in" | b"initially" | b"intersect" | b"into" | b"lateral" | b"leading" | b"limit" | b"localtime"
        | b"localtimestamp" | b"not" | b"null" | b"offset" | b"on" | b"only" | b"or" | b"order" | b"placing"
        | b"primary" | b"references" | b"returning" | b"select" | b"session_user" | b"some" | b"symmetric"
        | b"table" | b"then" | b"to" | b"trailing" | b"true" | b"union" | b"unique" | b"user" | b"using"
        | b"variadic" | b"when" | b"where" | b"window" | b"with" => Role::Syntax,
        // Not reserved, but never functions: types, and what has a grammar of its own and calls PostgreSQL's own.
        b"between" | b"bigint" | b"bit" | b"boolean" | b"char" | b"character" | b"coalesce" | b"dec"
        | b"decimal" | b"exists" | b"extract" | b"float" | b"greatest" | b"grouping" | b"inout" | b"int"
        | b"integer" | b"interval" | b"least" | b"national" | b"nchar" | b"none" | b"normalize"
        | b"nullif" | b"numeric" | b"out" | b"position" | b"precision" | b"real" | b"row" | b"setof"
        | b"smallint" | b"time" | b"timestamp" | b"trim" | b"values" | b"varchar"
        | b"xmlattributes" | b"xmlconcat" | b"xmlelement" | b"xmlexists" | b"xmlforest"
        | b"xmlnamespaces" | b"xmlparse" | b"xmlpi" | b"xmlroot" | b"xmlserialize" | b"xmltable" => {
            Role::Syntax
        }
        // Syntax that finds its function by the search path.
        b"overlay" | b"substring"
        // Reserved except as functions and types. (What is PostgreSQL's own function too is a name: `left`.)
        | b"ilike" | b"is" | b"join" | b"like" | b"overlaps"
        // Not reserved, and yet before a parenthesis.
        | b"by" | b"columns" | b"conflict" | b"cube" | b"escape" | b"exclude" | b"filter" | b"force_not_null"
        | b"force_null" | b"force_quote" | b"identity" | b"include" | b"insert" | b"key" | b"materialized"
        | b"options" | b"over" | b"passing" | b"repeatable" | b"rollup" | b"set" | b"sets"
        | b"varying" | b"zone"
        // Words of later versions.
        | b"json" | b"json_array" | b"json_arrayagg" | b"json_exists" | b"json_object" | b"json_objectagg"
        | b"json_query" | b"json_scalar" | b"json_serialize" | b"json_table" | b"json_value"
        | b"merge_action" => Role::Either,
        _ => Role::Name,
    }
}

/// A word folded to lower case, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folded {
    bytes: [u8; NAME_LEN_MAX],
    len: usize,
}

impl Folded {
    /// `None` if the word is longer than a name can be.
    pub(super) fn new(word: &[u8]) -> Option<Self> {
        let mut bytes = [0; NAME_LEN_MAX];
        let len = word.len();
        for (folded, byte) in bytes.get_mut(..len)?.iter_mut().zip(word) {
            *folded = byte.to_ascii_lowercase();
        }
        Some(Self { bytes, len })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
