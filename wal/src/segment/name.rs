//! The only place that formats or parses the name of a file of the log.

/// The lock file.
pub(crate) const LOCK: &str = "lock";
/// The control file.
pub(crate) const CONTROL: &str = "control";
/// The file that is given up when truncation finds the disk full.
pub(crate) const RESERVE: &str = "reserve";
/// What the writing process says of itself. It is no part of the log.
pub(crate) const STATISTICS: &str = "wal-statistics";

/// What a repair did, in the quarantine that it made.
pub(crate) const REPORT: &str = "report.txt";

const QUARANTINE_PREFIX: &str = "quarantine-";
const SEGMENT_SUFFIX: &str = ".wal";
const PREPARE_SUFFIX: &str = ".prepare";
const RECYCLE_SUFFIX: &str = ".recycle";
const TEMP_SUFFIX: &str = ".tmp";
const DIGITS: usize = 16;

/// What a name in the directory of a log stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileName {
    Lock,
    Control,
    Reserve,
    Statistics,
    Segment(u64),
    /// A segment being made ready; it holds no record.
    Prepare(u64),
    /// A removed segment whose blocks may serve again.
    Recycle(u64),
    /// The unfinished replacement of a segment.
    SegmentTemp(u64),
    /// The unfinished replacement of the control file.
    ControlTemp,
    /// A name the log does not know. Left alone.
    Foreign(String),
}

/// The name of segment `number`.
pub(crate) fn segment(number: u64) -> String {
    format!("{number:0DIGITS$x}{SEGMENT_SUFFIX}")
}

/// The name of segment `number` while it is made ready.
pub(crate) fn prepare(number: u64) -> String {
    format!("{number:0DIGITS$x}{PREPARE_SUFFIX}")
}

/// The name under which the removed segment `number` waits to be used again.
pub(crate) fn recycle(number: u64) -> String {
    format!("{number:0DIGITS$x}{RECYCLE_SUFFIX}")
}

/// The name of the directory in which repair number `number` keeps what it removes. The log itself takes it for foreign.
pub(crate) fn quarantine(number: u64) -> String {
    format!("{QUARANTINE_PREFIX}{number:04}")
}

/// Whether this is the name of such a directory.
pub(crate) fn is_quarantine(name: &str) -> bool {
    name.strip_prefix(QUARANTINE_PREFIX).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The name of the unfinished replacement of `name`.
pub(crate) fn temp(name: &str) -> String {
    format!("{name}{TEMP_SUFFIX}")
}

/// Says what a name stands for. Only the exact form that this module writes is recognised, so no two names mean one file.
pub(crate) fn parse(name: &str) -> FileName {
    match name {
        LOCK => return FileName::Lock,
        CONTROL => return FileName::Control,
        RESERVE => return FileName::Reserve,
        STATISTICS => return FileName::Statistics,
        _ => {}
    }
    if name.strip_suffix(TEMP_SUFFIX) == Some(CONTROL) {
        return FileName::ControlTemp;
    }
    let number_before = |suffix| name.strip_suffix(suffix).and_then(parse_number);
    if let Some(number) = number_before(SEGMENT_SUFFIX) {
        return FileName::Segment(number);
    }
    if let Some(number) = number_before(PREPARE_SUFFIX) {
        return FileName::Prepare(number);
    }
    if let Some(number) = number_before(RECYCLE_SUFFIX) {
        return FileName::Recycle(number);
    }
    let temp = name.strip_suffix(TEMP_SUFFIX).and_then(|name| name.strip_suffix(SEGMENT_SUFFIX));
    match temp.and_then(parse_number) {
        Some(number) => FileName::SegmentTemp(number),
        None => FileName::Foreign(name.to_owned()),
    }
}

fn parse_number(digits: &str) -> Option<u64> {
    let is_canonical = digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_canonical {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_written_is_read_back() {
        for number in [1, 2, 0xabc, u64::MAX] {
            assert_eq!(parse(&segment(number)), FileName::Segment(number));
            assert_eq!(parse(&prepare(number)), FileName::Prepare(number));
            assert_eq!(parse(&recycle(number)), FileName::Recycle(number));
            assert_eq!(parse(&temp(&segment(number))), FileName::SegmentTemp(number));
        }
        assert_eq!(segment(1), "0000000000000001.wal");
        assert_eq!(parse(&temp(CONTROL)), FileName::ControlTemp);
    }

    #[test]
    fn names_that_only_resemble_ours_are_foreign() {
        for name in
            ["1.wal", "000000000000000A.wal", "0000000000000000.wal", "+000000000000001.wal", "x.tmp", "lock.tmp", ""]
        {
            assert_eq!(parse(name), FileName::Foreign(name.to_owned()), "{name}");
        }
    }
}
