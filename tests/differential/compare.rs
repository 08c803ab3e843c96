//! What must be equal of two answers.

use crate::common::wire::Frame;

/// The first number of an object that is no part of PostgreSQL itself: such numbers differ from database to database.
const FIRST_OWN_OID: u64 = 16_384;

/// An answer, line by line. Where among its parts a `ParameterStatus` comes means nothing: the last one of each name is
/// told at the end, before `ReadyForQuery`.
pub(crate) fn transcript(frames: &[Frame]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut parameters = std::collections::BTreeMap::new();
    for frame in frames {
        match frame.kind {
            b'S' => {
                let (name, value) = frame.parameter();
                parameters.insert(name, value);
            }
            _ if misses_temporary(frame) => lines.push("E something of pg_temp does not exist".to_owned()),
            _ => lines.push(without_numbers(&frame.describe())),
        }
        if frame.kind == b'Z' {
            let at = lines.len() - 1;
            let told = std::mem::take(&mut parameters);
            lines.splice(at..at, told.into_iter().map(|pair| format!("S {pair:?}")));
        }
    }
    lines
}

/// A session's temporary schema is made when it is first needed, and stays: whether the schema is missing or what is
/// looked for in it is a matter of what others have done on that server.
fn misses_temporary(frame: &Frame) -> bool {
    if frame.kind != b'E' {
        return false;
    }
    let error = frame.error();
    ["3F000", "42704", "42883", "42P01"].contains(&error.code()) && error.message().contains("pg_temp")
}

/// Leaves out what is different by nature: numbers of types and of temporary schemas.
fn without_numbers(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = ["type ", "pg_temp_", "pg_toast_temp_"]
        .iter()
        .filter_map(|word| rest.find(word).map(|at| at + word.len()))
        .min()
    {
        let (before, after) = rest.split_at(at);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = after.split_at(digits);
        let is_fixed =
            before.ends_with("type ") && number.parse::<u64>().is_ok_and(|oid| oid < FIRST_OWN_OID);
        out.push_str(before);
        out.push_str(if is_fixed || number.is_empty() {
            number
        } else {
            "N"
        });
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_ones_own_objects_mean_nothing() {
        assert_eq!(
            without_numbers("T [\"a=0 type 25/-1\", \"b=0 type 16999/4\"] pg_temp_3.x pg_temp"),
            "T [\"a=0 type 25/-1\", \"b=0 type N/4\"] pg_temp_N.x pg_temp"
        );
    }
}
