//! What a command answers with: columns, rows, and how they look on the wire.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

use crate::wire::write;

/// A type of `pg_type`, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Int4,
    Int8,
    Numeric,
}

impl Type {
    fn oid(self) -> u32 {
        match self {
            Self::Int8 => 20,
            Self::Int4 => 23,
            Self::Text => 25,
            Self::Numeric => 1700,
        }
    }

    fn size(self) -> i16 {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
            Self::Text | Self::Numeric => -1,
        }
    }
}

/// Name and type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Type,
}

pub(super) const fn text(name: &'static str) -> Column {
    let kind = Type::Text;
    Column { name, kind }
}

pub(super) const fn int4(name: &'static str) -> Column {
    let kind = Type::Int4;
    Column { name, kind }
}

pub(super) const fn int8(name: &'static str) -> Column {
    let kind = Type::Int8;
    Column { name, kind }
}

pub(super) const fn numeric(name: &'static str) -> Column {
    let kind = Type::Numeric;
    Column { name, kind }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(Cow<'static, str>),
    Number(u64),
}

/// A row.
pub(super) type Row = Vec<Cell>;

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(Cow::Owned(text.to_owned()))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Number(flag.into())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A point in time: `2025-12-31 23:59:59 UTC`.
impl From<SystemTime> for Cell {
    fn from(time: SystemTime) -> Self {
        let seconds = humantime::format_rfc3339_seconds(time).to_string();
        seconds.replace('T', " ").replace('Z', " UTC").into()
    }
}

/// Whole seconds of a time, and its rest in microseconds.
pub(super) fn split_time(time: Duration) -> [Cell; 2] {
    [time.as_secs().into(), time.subsec_micros().into()]
}

/// How a value is written ("Formats and Format Codes" in the manual).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

/// The formats that a Bind asks for: none is text, one is for all columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Formats(pub(super) Vec<Format>);

impl Formats {
    fn of(&self, column: usize) -> Format {
        let format = if self.0.len() == 1 {
            self.0.first()
        } else {
            self.0.get(column)
        };
        format.copied().unwrap_or(Format::Text)
    }
}

/// Appends a `RowDescription`.
pub(super) fn write_columns(out: &mut BytesMut, columns: &[Column], formats: &Formats) {
    write::message(out, b'T', |out| {
        out.put_u16(columns.len() as u16);
        for (index, column) in columns.iter().enumerate() {
            write::cstr(out, column.name.as_bytes());
            // No column of any table.
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column.kind.oid());
            out.put_i16(column.kind.size());
            out.put_i32(-1);
            out.put_u16(u16::from(formats.of(index) == Format::Binary));
        }
    });
}

/// Appends a `DataRow`.
pub(super) fn write_row(out: &mut BytesMut, columns: &[Column], row: &Row, formats: &Formats) {
    write::message(out, b'D', |out| {
        out.put_u16(row.len() as u16);
        for (index, (cell, column)) in row.iter().zip(columns).enumerate() {
            let mut value = BytesMut::new();
            match cell {
                Cell::Null => {
                    out.put_i32(-1);
                    continue;
                }
                Cell::Text(text) => value.put_slice(text.as_bytes()),
                Cell::Number(number) => match formats.of(index) {
                    Format::Text => value.put_slice(number.to_string().as_bytes()),
                    Format::Binary => write_binary(&mut value, column.kind, *number),
                },
            }
            out.put_u32(value.len() as u32);
            out.put_slice(&value);
        }
    });
}

fn write_binary(out: &mut BytesMut, kind: Type, number: u64) {
    match kind {
        Type::Text => out.put_slice(number.to_string().as_bytes()),
        Type::Int4 => out.put_i32(i32::try_from(number).unwrap_or(i32::MAX)),
        Type::Int8 => out.put_i64(i64::try_from(number).unwrap_or(i64::MAX)),
        Type::Numeric => write_numeric(out, number),
    }
}

/// As `numeric_send` writes it: digits to the base of 10000, the highest first, after four words about them.
fn write_numeric(out: &mut BytesMut, number: u64) {
    let mut digits = Vec::new();
    let mut rest = number;
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    out.put_u16(digits.len() as u16);
    out.put_u16(digits.len().saturating_sub(1) as u16);
    // Positive, and nothing behind the point.
    out.put_u32(0);
    for digit in digits.into_iter().rev() {
        out.put_u16(digit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_postgresql_sends_them() {
        let binary = |kind, number| {
            let mut out = BytesMut::new();
            write_binary(&mut out, kind, number);
            out.to_vec()
        };
        assert_eq!(binary(Type::Int4, 258), [0, 0, 1, 2]);
        assert_eq!(binary(Type::Int4, u64::MAX), i32::MAX.to_be_bytes());
        assert_eq!(binary(Type::Int8, 258), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(binary(Type::Numeric, 0), [0; 8]);
        assert_eq!(
            binary(Type::Numeric, 12_345_678),
            [0, 2, 0, 1, 0, 0, 0, 0, 0x04, 0xd2, 0x16, 0x2e]
        );
        assert_eq!(binary(Type::Text, 42), b"42");
    }

    #[test]
    fn one_format_is_for_all_columns_and_none_is_text() {
        assert_eq!(Formats::default().of(3), Format::Text);
        assert_eq!(Formats(vec![Format::Binary]).of(3), Format::Binary);
        assert_eq!(Formats(vec![Format::Text, Format::Binary]).of(1), Format::Binary);
    }

    #[test]
    fn times_are_readable() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(86_399_900);
        assert_eq!(Cell::from(time), Cell::from("1970-01-01 23:59:59 UTC"));
        assert_eq!(
            split_time(Duration::from_millis(2500)),
            [2u64.into(), 500_000u64.into()]
        );
    }
}
