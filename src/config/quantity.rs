//! Amounts with a unit: memory and time.

use std::time::Duration;

use super::value::{Kind, Raw, quoted};

/// An amount of memory, in bytes.
pub(super) struct Size;

/// Powers of 1024, as PostgreSQL's own settings have it.
const SIZES: [(&str, u64); 5] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("kB", 1 << 10),
    ("B", 1),
];

impl Kind for Size {
    type Value = u64;
    const WORD: &'static str = "size";
    const WANTED: &'static str = "a size such as \"4kB\", \"16MB\" or a number of bytes";

    fn read(raw: &Raw) -> Result<u64, String> {
        let read = |written: &str| {
            let end = written
                .find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(written.len());
            let (digits, unit) = written.split_at(end);
            let unit = if unit.trim().is_empty() { "B" } else { unit.trim() };
            let (_, bytes) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
            digits.parse::<u64>().ok()?.checked_mul(*bytes)
        };
        raw.digits()
            .and_then(read)
            .ok_or_else(|| raw.is_not(Self::WANTED))
    }

    fn show(value: &u64) -> String {
        match SIZES
            .iter()
            .find(|(_, bytes)| *value > 0 && value.is_multiple_of(*bytes))
        {
            Some((unit, bytes)) => format!("{}{unit}", value / bytes),
            None => "0".to_owned(),
        }
    }
}

/// A length of time.
pub(super) struct Time;

/// Far below the point where adding to an `Instant` could overflow.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const TIMES: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

impl Kind for Time {
    type Value = Duration;
    const WORD: &'static str = "duration";
    const WANTED: &'static str = "a duration such as \"30s\", \"1h 5min\", \"500ms\" or a number of seconds";

    fn read(raw: &Raw) -> Result<Duration, String> {
        let read = |written: &str| match written.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(written).ok(),
        };
        let time = raw
            .digits()
            .and_then(read)
            .ok_or_else(|| raw.is_not(Self::WANTED))?;
        if time > TIME_MAX {
            return Err(format!("{} is more than a hundred years", raw.described()));
        }
        // Whole microseconds, so that what is shown is what is meant.
        Ok(Duration::from_micros(
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        ))
    }

    fn show(value: &Duration) -> String {
        let mut rest = value.as_nanos();
        let mut parts = Vec::new();
        for (unit, nanos) in TIMES {
            if rest >= nanos {
                parts.push(format!("{}{unit}", rest / nanos));
                rest %= nanos;
            }
        }
        if parts.is_empty() {
            "0".to_owned()
        } else {
            parts.join(" ")
        }
    }

    fn toml(value: &Duration) -> String {
        if value.is_zero() {
            "0".to_owned()
        } else {
            quoted(&Self::show(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<Duration, String> {
        Time::read(&Raw::text(text))
    }

    #[test]
    fn durations_are_read_with_units_and_without() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1h 5min", 3_900_000),
            ("1h5m", 3_900_000),
            ("500ms", 500),
            ("15", 15_000),
            ("0.25", 250),
            (" 2 min ", 120_000),
            ("0", 0),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "soon", "-1", "NaN", "inf", "5 bananas", "1e300", "200years"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(
            Time::read(&Raw::Number("1.5".into())),
            Ok(Duration::from_millis(1500))
        );
    }

    #[test]
    fn durations_are_shown_in_the_largest_units() {
        assert_eq!(
            Time::show(&Duration::from_millis(90_061_500)),
            "1d 1h 1min 1s 500ms"
        );
        assert_eq!(Time::show(&Duration::ZERO), "0");
        assert_eq!(
            time(&Time::show(&Duration::from_micros(1_000_001))),
            Ok(Duration::from_micros(1_000_001))
        );
    }

    #[test]
    fn sizes_count_in_powers_of_1024() {
        for (text, bytes) in [
            ("4kB", 4096),
            ("16 MB", 16 << 20),
            ("1gb", 1 << 30),
            ("12", 12),
            ("7B", 7),
        ] {
            assert_eq!(Size::read(&Raw::text(text)), Ok(bytes), "{text}");
        }
        for text in ["", "kB", "1.5MB", "3 apples", "99999999999TB", "-1"] {
            assert!(Size::read(&Raw::text(text)).is_err(), "{text}");
        }
        assert_eq!(
            [Size::show(&0), Size::show(&1536), Size::show(&(16 << 20))],
            ["0", "1536B", "16MB"]
        );
    }
}
