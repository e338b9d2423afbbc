//! What a writing process says of itself in the file `wal-statistics`: the text in it, and nothing of when it is written.
//!
//! `specs/format.md` draws the file. It is no part of the log: nothing is decided by it, and it is never synced. So a reader believes it
//! only if its checksum is right, and takes everything else for a file that cannot be read.

use std::fmt::Write;
use std::time::Duration;

use crate::config::SyncMode;
use crate::lsn::Lsn;
use crate::metrics::{Stats, Summary};
use crate::record::LogId;

/// Bytes of the file. It always has this size, so that writing it again changes no metadata but its time.
pub(crate) const FILE_BYTES: usize = 4096;

const MAGIC: &str = "wal-statistics ";
const VERSION: &str = "1";
const CHECKSUM: &str = "crc32c ";

/// Bytes that a text of free length may have. What is longer is cut.
const TEXT_BYTES_MAX: usize = 600;

/// What the process that writes a log last said of itself. See [`Config::statistics_interval`](crate::Config::statistics_interval).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Statistics {
    /// Which log.
    pub log_id: LogId,
    /// The id of the process.
    pub process: u64,
    /// How often the process has written the file.
    pub sequence: u64,
    /// When the log was opened, microseconds since 1970-01-01 UTC.
    pub opened_micros: u64,
    /// When the file was written, microseconds since 1970-01-01 UTC.
    pub written_micros: u64,
    /// How long it is meant to be until the file is written again.
    pub interval: Duration,
    /// The mode in which the log is open.
    pub sync_mode: SyncMode,
    /// Whether groups are written with direct I/O.
    pub is_direct: bool,
    /// The LSN that the next record gets.
    pub next_lsn: Lsn,
    /// From where on a hold keeps the log.
    pub oldest_hold: Option<Lsn>,
    /// What poisoned the log, or kept it from being closed.
    pub failure: Option<String>,
    /// Since the log was opened.
    pub total: Stats,
    /// Since the file was written before.
    pub recent: Recent,
}

/// What a log did between two writes of its statistics. Durations are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Recent {
    /// The time between the two.
    pub duration: Duration,
    /// Records appended.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Groups written.
    pub groups: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Blocking appends, from call to acknowledgement.
    pub append: Summary,
    /// Syncs.
    pub sync: Summary,
    /// Records in a group.
    pub group_records: Summary,
    /// Bytes in a group.
    pub group_bytes: Summary,
}

/// A value as it stands behind its name.
enum Value<'a> {
    Number(&'a mut u64),
    Lsn(&'a mut Lsn),
    OptionalLsn(&'a mut Option<Lsn>),
    Micros(&'a mut Duration),
    Flag(&'a mut bool),
    Mode(&'a mut SyncMode),
    Id(&'a mut LogId),
    Text(&'a mut Option<String>),
    Summary(&'a mut Summary),
}

impl Statistics {
    /// Statistics of a log that has done nothing.
    pub(crate) fn new(log_id: LogId) -> Statistics {
        Statistics {
            log_id,
            process: 0,
            sequence: 0,
            opened_micros: 0,
            written_micros: 0,
            interval: Duration::ZERO,
            sync_mode: SyncMode::Sync,
            is_direct: false,
            next_lsn: Lsn::ZERO,
            oldest_hold: None,
            failure: None,
            total: Stats::default(),
            recent: Recent::default(),
        }
    }

    /// Every value with its name, in the order of the file: the one list that writing and reading share.
    fn values(&mut self) -> Vec<(&'static str, Value<'_>)> {
        use Value::{Flag, Id, Micros, Mode, Number, OptionalLsn, Text};
        let mut values = vec![
            ("log_id", Id(&mut self.log_id)),
            ("process", Number(&mut self.process)),
            ("sequence", Number(&mut self.sequence)),
            ("opened_micros", Number(&mut self.opened_micros)),
            ("written_micros", Number(&mut self.written_micros)),
            ("interval_micros", Micros(&mut self.interval)),
            ("mode", Mode(&mut self.sync_mode)),
            ("direct", Flag(&mut self.is_direct)),
            ("next_lsn", Value::Lsn(&mut self.next_lsn)),
            ("oldest_hold_lsn", OptionalLsn(&mut self.oldest_hold)),
            ("failure", Text(&mut self.failure)),
        ];
        values.extend(total_values(&mut self.total));
        values.extend(recent_values(&mut self.recent));
        values
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> [u8; FILE_BYTES] {
        let mut statistics = self.clone();
        let mut lines = String::with_capacity(FILE_BYTES);
        for (name, value) in statistics.values() {
            writeln!(lines, "{name} {}", value.text()).expect("a string takes everything");
        }
        let head = format!("{MAGIC}{VERSION}\n");
        let room = FILE_BYTES - head.len() - CHECKSUM.len() - 9;
        assert!(lines.len() <= room, "numbers and cut texts fit: {} bytes", lines.len());
        // Padded in front of the last newline, so that the file is text for every pager.
        lines.pop();
        lines.push_str(&" ".repeat(room - 1 - lines.len()));
        lines.push('\n');
        let text = format!("{head}{CHECKSUM}{:08x}\n{lines}", checksum(&head, lines.as_bytes()));
        text.into_bytes().try_into().expect("it was padded to the size of the file")
    }

    /// Reads the bytes of the file; says why if that is not possible. A name that is not known is passed over.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Statistics, String> {
        let Some((head, rest)) = split_line(bytes).filter(|(head, _)| head.starts_with(MAGIC.as_bytes())) else {
            return Err("it does not begin as a file of statistics does".to_owned());
        };
        if bytes.len() != FILE_BYTES {
            return Err(format!("it has {} bytes instead of {FILE_BYTES}", bytes.len()));
        }
        let (Some((stored, rest)), Ok(head)) = (split_line(rest), std::str::from_utf8(head)) else {
            return Err("its first lines are damaged".to_owned());
        };
        if stored != format!("{CHECKSUM}{:08x}", checksum(&format!("{head}\n"), rest)).as_bytes() {
            return Err("its checksum is wrong; it may have been written at this very moment".to_owned());
        }
        let version = &head[MAGIC.len()..];
        if version != VERSION {
            return Err(format!("it has version {version:?}, and this program knows version {VERSION}"));
        }
        let text = std::str::from_utf8(rest).map_err(|_| "it is no text".to_owned())?;
        let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let mut statistics = Statistics::new(LogId([0; 16]));
        for (name, mut value) in statistics.values() {
            let text = find(name).ok_or_else(|| format!("it has no line {name:?}"))?;
            value.parse(text.trim_end()).ok_or_else(|| format!("its line {name:?} says {:?}", text.trim_end()))?;
        }
        Ok(statistics)
    }
}

/// Names every field, so that one that is added is not forgotten.
fn total_values(total: &mut Stats) -> Vec<(&'static str, Value<'_>)> {
    use Value::Number;
    let Stats {
        records,
        payload_bytes,
        groups,
        written_bytes,
        syncs,
        rotations,
        segments_prepared,
        segments_recycled,
        segments_removed,
        preparation_failures,
        full_refusals,
        statistics_failures,
        start_lsn,
        written_lsn,
        durable_lsn,
        segments,
        append,
        sync,
        write,
        group_records,
        group_bytes,
        prepare_wait,
        recovery,
    } = total;
    vec![
        ("records", Number(records)),
        ("payload_bytes", Number(payload_bytes)),
        ("groups", Number(groups)),
        ("written_bytes", Number(written_bytes)),
        ("syncs", Number(syncs)),
        ("rotations", Number(rotations)),
        ("segments_prepared", Number(segments_prepared)),
        ("segments_recycled", Number(segments_recycled)),
        ("segments_removed", Number(segments_removed)),
        ("preparation_failures", Number(preparation_failures)),
        ("full_refusals", Number(full_refusals)),
        ("statistics_failures", Number(statistics_failures)),
        ("start_lsn", Value::Lsn(start_lsn)),
        ("written_lsn", Value::Lsn(written_lsn)),
        ("durable_lsn", Value::Lsn(durable_lsn)),
        ("segments", Number(segments)),
        ("append_nanos", Value::Summary(append)),
        ("sync_nanos", Value::Summary(sync)),
        ("write_nanos", Value::Summary(write)),
        ("group_records", Value::Summary(group_records)),
        ("group_bytes", Value::Summary(group_bytes)),
        ("prepare_wait_nanos", Value::Summary(prepare_wait)),
        ("recovery_nanos", Value::Summary(recovery)),
    ]
}

fn recent_values(recent: &mut Recent) -> Vec<(&'static str, Value<'_>)> {
    use Value::Number;
    let Recent { duration, records, payload_bytes, groups, syncs, append, sync, group_records, group_bytes } = recent;
    vec![
        ("recent_micros", Value::Micros(duration)),
        ("recent_records", Number(records)),
        ("recent_payload_bytes", Number(payload_bytes)),
        ("recent_groups", Number(groups)),
        ("recent_syncs", Number(syncs)),
        ("recent_append_nanos", Value::Summary(append)),
        ("recent_sync_nanos", Value::Summary(sync)),
        ("recent_group_records", Value::Summary(group_records)),
        ("recent_group_bytes", Value::Summary(group_bytes)),
    ]
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn checksum(head: &str, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head.as_bytes()), rest)
}

/// A text on one line that is not too long.
fn cut(text: &str) -> String {
    let mut line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    while line.len() > TEXT_BYTES_MAX {
        line.pop();
    }
    line
}

impl Value<'_> {
    fn text(&self) -> String {
        const NOTHING: &str = "-";
        match self {
            Value::Number(number) => number.to_string(),
            Value::Lsn(lsn) => lsn.to_string(),
            Value::OptionalLsn(lsn) => lsn.map_or(NOTHING.to_owned(), |lsn| lsn.to_string()),
            Value::Micros(duration) => micros(**duration).to_string(),
            Value::Flag(flag) => if **flag { "yes" } else { "no" }.to_owned(),
            Value::Mode(SyncMode::Sync) => "sync".to_owned(),
            Value::Mode(SyncMode::Batch { delay, bytes }) => format!("batch {} {bytes}", micros(*delay)),
            Value::Mode(SyncMode::None) => "none".to_owned(),
            Value::Id(id) => id.to_string(),
            // A text is told from nothing by the sign in front of it.
            Value::Text(text) => text.as_ref().map_or(NOTHING.to_owned(), |text| format!("= {}", cut(text))),
            Value::Summary(summary) => {
                let Summary { count, mean, p50, p99, p999, max } = **summary;
                format!("{count} {mean} {p50} {p99} {p999} {max}")
            }
        }
    }

    fn parse(&mut self, text: &str) -> Option<()> {
        match self {
            Value::Number(number) => **number = text.parse().ok()?,
            Value::Lsn(lsn) => **lsn = text.parse().ok()?,
            Value::OptionalLsn(lsn) => **lsn = if text == "-" { None } else { Some(text.parse().ok()?) },
            Value::Micros(duration) => **duration = Duration::from_micros(text.parse().ok()?),
            Value::Flag(flag) => **flag = ["no", "yes"].iter().position(|word| *word == text)? == 1,
            Value::Mode(mode) => {
                let words: Vec<&str> = text.split(' ').collect();
                **mode = match words[..] {
                    ["sync"] => SyncMode::Sync,
                    ["none"] => SyncMode::None,
                    ["batch", delay, bytes] => SyncMode::Batch {
                        delay: Duration::from_micros(delay.parse().ok()?),
                        bytes: bytes.parse().ok()?,
                    },
                    _ => return None,
                };
            }
            Value::Id(id) => {
                let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                **id = LogId(u128::from_str_radix(text, 16).ok().filter(|_| is_id)?.to_be_bytes());
            }
            Value::Text(kept) => **kept = if text == "-" { None } else { Some(text.strip_prefix("= ")?.to_owned()) },
            Value::Summary(summary) => {
                let words: Vec<&str> = text.split(' ').collect();
                let [count, mean, p50, p99, p999, max] = words[..] else { return None };
                **summary = Summary {
                    count: count.parse().ok()?,
                    mean: mean.parse().ok().filter(|mean: &f64| mean.is_finite() && *mean >= 0.0)?,
                    p50: p50.parse().ok()?,
                    p99: p99.parse().ok()?,
                    p999: p999.parse().ok()?,
                    max: max.parse().ok()?,
                };
            }
        }
        Some(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value as long as it can be.
    fn longest() -> Statistics {
        let mut statistics = Statistics::new(LogId([0xfe; 16]));
        let mean = 1.0 / 3.0 + 1e12;
        for (_, value) in statistics.values() {
            match value {
                Value::Number(number) => *number = u64::MAX,
                Value::Lsn(lsn) => *lsn = Lsn::new(u64::MAX),
                Value::OptionalLsn(lsn) => *lsn = Some(Lsn::new(u64::MAX)),
                Value::Micros(duration) => *duration = Duration::from_micros(u64::MAX),
                Value::Flag(flag) => *flag = true,
                Value::Mode(mode) => {
                    *mode = SyncMode::Batch { delay: Duration::from_micros(u64::MAX), bytes: u64::MAX };
                }
                Value::Id(_) => {}
                Value::Text(text) => *text = Some("ü\n".repeat(TEXT_BYTES_MAX)),
                Value::Summary(summary) => {
                    let max = u64::MAX;
                    *summary = Summary { count: max, mean, p50: max, p99: max, p999: max, max };
                }
            }
        }
        statistics
    }

    #[test]
    fn what_is_written_is_read_back_even_where_every_value_is_as_long_as_it_can_be() {
        for statistics in [Statistics::new(LogId([7; 16])), longest()] {
            let mut expected = statistics.clone();
            expected.failure = expected.failure.map(|text| cut(&text).trim_end().to_owned());
            let bytes = statistics.encode();
            assert_eq!(Statistics::decode(&bytes), Ok(expected));
            assert!(bytes.ends_with(b"\n") && !bytes.contains(&0));
        }
    }

    #[test]
    fn every_changed_bit_and_every_other_length_is_an_error() {
        let bytes = Statistics::new(LogId([7; 16])).encode();
        for bit in 0..8 * FILE_BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Statistics::decode(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..FILE_BYTES {
            assert!(Statistics::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(Statistics::decode(&[&bytes[..], b"\n"].concat()).is_err());
        assert!(Statistics::decode(&[0; FILE_BYTES]).is_err());
    }

    /// The file with another text behind its checksum.
    fn with_lines(change: impl Fn(&str) -> String) -> Vec<u8> {
        let text = String::from_utf8(Statistics::new(LogId([7; 16])).encode().to_vec()).expect("it is text");
        let lines: Vec<&str> = text.splitn(3, '\n').collect();
        let head = change(&format!("{}\n", lines[0]));
        let room = FILE_BYTES - head.len() - CHECKSUM.len() - 9;
        let rest = format!("{:<width$}\n", change(lines[2].trim_end()), width = room - 1);
        format!("{head}{CHECKSUM}{:08x}\n{rest}", checksum(&head, rest.as_bytes())).into_bytes()
    }

    #[test]
    fn another_version_and_values_that_make_no_sense_are_told_apart_from_damage() {
        assert!(Statistics::decode(&with_lines(str::to_owned)).is_ok());
        let added = with_lines(|lines| lines.replace("process 0", "process 0\nlater 1 2 3"));
        assert!(Statistics::decode(&added).is_ok(), "a line may be added");
        let error =
            |from: &str, to: &str| Statistics::decode(&with_lines(|lines| lines.replace(from, to))).unwrap_err();
        assert!(error("statistics 1", "statistics 2").contains("version"));
        assert!(error("\nprocess 0", "").contains("no line \"process\""));
        for (from, to) in [
            ("process 0", "process -1"),
            ("mode sync", "mode batch 1"),
            ("direct no", "direct maybe"),
            ("sync_nanos 0 0 0 0 0 0", "sync_nanos 0 NaN 0 0 0 0"),
            ("sync_nanos 0 0 0 0 0 0", "sync_nanos 0 0 0 0 0"),
            ("failure -", "failure so what"),
            ("log_id 07", "log_id +7"),
        ] {
            assert!(error(from, to).contains("says"), "{to}");
        }
    }
}
