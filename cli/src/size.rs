//! Sizes and durations, as people write and read them.

use std::time::Duration;

/// Parses a size: `4096`, `64K`, `64KiB`, `16MiB`, `1GiB` (powers of 1024), `1KB`, `1MB`, `1GB` (powers of 1000).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(format!("{unit:?} is no unit of size; use KiB, MiB, GiB, or KB, MB, GB")),
    };
    number.checked_mul(factor).ok_or_else(|| "the size is too large".to_owned())
}

/// Parses a duration: `250us`, `10ms`, `1s`, `2m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" | "min" => {
            number.checked_mul(60).map(Duration::from_secs).ok_or_else(|| "the duration is too long".to_owned())
        }
        "" => Err("a duration needs a unit: us, ms, s or m".to_owned()),
        _ => Err(format!("{unit:?} is no unit of time; use us, ms, s or m")),
    }
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("it must begin with a whole number".to_owned());
    }
    let number = number.parse().map_err(|_| "the number is too large".to_owned())?;
    Ok((number, unit.trim_start()))
}

/// A number of bytes for people: exact below 10 KiB, else with one decimal.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 10 << 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Nanoseconds for people, with three significant digits or so.
pub(crate) fn show_nanos(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

/// A time in microseconds since 1970 as `2026-01-31 23:59:59`, in UTC.
pub(crate) fn show_time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from the first of March of year 0, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        let cases = [
            ("4096", 4096),
            ("64K", 65536),
            ("64KiB", 65536),
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("1MB", 1_000_000),
            ("8 kib", 8192),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "4X", "99999999999999999999", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_duration("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        for text in ["", "10", "ms", "1h", "-1s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_with_the_unit_that_fits() {
        assert_eq!(show_bytes(4096), "4096 B");
        assert_eq!(show_bytes(16 << 20), "16.0 MiB");
        assert_eq!(show_nanos(950), "950 ns");
        assert_eq!(show_nanos(1_500_000), "1.50 ms");
    }

    #[test]
    fn times_are_dates_of_the_gregorian_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00"),
            (951_782_399_000_000, "2000-02-28 23:59:59"),
            (951_782_400_000_000, "2000-02-29 00:00:00"),
            (1_709_251_199_999_999, "2024-02-29 23:59:59"),
            (4_107_542_400_000_000, "2100-03-01 00:00:00"),
        ];
        for (micros, text) in cases {
            assert_eq!(show_time(micros), text);
        }
    }
}
