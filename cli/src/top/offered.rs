//! What the process that writes a log says of itself, and whether that is news.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use wal::fs::RealFileSystem;
use wal::inspect::{Statistics, StatisticsFile, Survey, statistics};
use wal::{Summary, SyncMode};

use crate::failure::Result;
use crate::log::is_in_use;

/// How many intervals may pass without a word, and how much time beside them, before what was said counts as old.
const INTERVALS_MAX: u32 = 3;
const GRACE: Duration = Duration::from_secs(1);

/// What there is.
pub(super) enum Offered {
    Nothing,
    /// A file that says nothing, and why.
    Unreadable(String),
    /// What was said by a process that does not write the log any more, or not long enough ago to be believed.
    Stale {
        why: String,
        said: Box<Statistics>,
        age: Duration,
    },
    Live {
        said: Box<Statistics>,
        age: Duration,
    },
}

/// Looks for the statistics of the log that was surveyed.
pub(super) fn look(dir: &Path, survey: &Survey) -> Result<Offered> {
    let was_in_use = is_in_use(dir);
    let found = statistics(&RealFileSystem, dir)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(match found {
        StatisticsFile::Unreadable(why) => Offered::Unreadable(why),
        StatisticsFile::Valid(said) => match &survey.control {
            Some(control) if control.log_id != said.log_id => {
                Offered::Unreadable(format!("it tells of another log, {}", said.log_id))
            }
            _ => judge(said, was_in_use && is_in_use(dir), now),
        },
        _ => Offered::Nothing,
    })
}

/// Whether what was said is news, at a time since 1970.
fn judge(said: Box<Statistics>, is_in_use: bool, now: Duration) -> Offered {
    let written = Duration::from_micros(said.written_micros);
    let age = now.saturating_sub(written);
    let late = said.interval.saturating_mul(INTERVALS_MAX).saturating_add(GRACE);
    let process = said.process;
    let why = if !is_in_use {
        format!("process {process} wrote them {} ago and holds the log no more", show_age(age))
    } else if age > late {
        format!(
            "process {process} wrote them {} ago and meant to do so every {}: it hangs, or another process writes now",
            show_age(age),
            show_age(said.interval)
        )
    } else if written > now + GRACE {
        format!("process {process} wrote them in the future; the clock was set back")
    } else {
        return Offered::Live { said, age };
    };
    Offered::Stale { why, said, age }
}

/// A time for people, who do not count the milliseconds of an hour.
pub(super) fn show_age(age: Duration) -> String {
    match age.as_secs() {
        0..10 => format!("{:.1} s", age.as_secs_f64()),
        10..120 => format!("{} s", age.as_secs()),
        120..7200 => format!("{} min", age.as_secs() / 60),
        7200..172_800 => format!("{} h", age.as_secs() / 3600),
        _ => format!("{} days", age.as_secs() / 86_400),
    }
}

/// Statistics as JSON shows them.
#[derive(Serialize)]
pub(super) struct OfferedView {
    pub(super) state: &'static str,
    why: Option<String>,
    process: Option<u64>,
    age_millis: Option<u64>,
    failure: Option<String>,
    #[serde(flatten)]
    news: Option<News>,
}

/// What is shown only while it is news.
#[derive(Serialize)]
struct News {
    opened_micros: u64,
    interval_millis: u64,
    sync_mode: &'static str,
    is_direct: bool,
    next_lsn: String,
    written_lsn: String,
    durable_lsn: String,
    oldest_hold_lsn: Option<String>,
    recent: RecentView,
    total: TotalView,
}

#[derive(Serialize)]
struct RecentView {
    millis: u64,
    records: u64,
    payload_bytes: u64,
    groups: u64,
    syncs: u64,
    append_nanos: Summary,
    sync_nanos: Summary,
    group_records: Summary,
    group_bytes: Summary,
}

#[derive(Serialize)]
struct TotalView {
    records: u64,
    payload_bytes: u64,
    groups: u64,
    written_bytes: u64,
    syncs: u64,
    rotations: u64,
    segments_removed: u64,
    preparation_failures: u64,
    full_refusals: u64,
    statistics_failures: u64,
    append_nanos: Summary,
    sync_nanos: Summary,
    prepare_wait_nanos: Summary,
}

impl Offered {
    pub(super) fn view(&self) -> OfferedView {
        let bare = |state, why: Option<&String>| OfferedView {
            state,
            why: why.cloned(),
            process: None,
            age_millis: None,
            failure: None,
            news: None,
        };
        let with = |view: OfferedView, said: &Statistics, age: Duration| OfferedView {
            process: Some(said.process),
            age_millis: Some(millis(age)),
            failure: said.failure.clone(),
            ..view
        };
        match self {
            Offered::Nothing => bare("absent", None),
            Offered::Unreadable(why) => bare("unreadable", Some(why)),
            Offered::Stale { why, said, age } => with(bare("stale", Some(why)), said, *age),
            Offered::Live { said, age } => {
                OfferedView { news: Some(news(said)), ..with(bare("live", None), said, *age) }
            }
        }
    }
}

fn news(said: &Statistics) -> News {
    let (recent, total) = (&said.recent, &said.total);
    News {
        opened_micros: said.opened_micros,
        interval_millis: millis(said.interval),
        sync_mode: mode(said.sync_mode),
        is_direct: said.is_direct,
        next_lsn: said.next_lsn.to_string(),
        written_lsn: total.written_lsn.to_string(),
        durable_lsn: total.durable_lsn.to_string(),
        oldest_hold_lsn: said.oldest_hold.map(|lsn| lsn.to_string()),
        recent: RecentView {
            millis: millis(recent.duration),
            records: recent.records,
            payload_bytes: recent.payload_bytes,
            groups: recent.groups,
            syncs: recent.syncs,
            append_nanos: recent.append,
            sync_nanos: recent.sync,
            group_records: recent.group_records,
            group_bytes: recent.group_bytes,
        },
        total: TotalView {
            records: total.records,
            payload_bytes: total.payload_bytes,
            groups: total.groups,
            written_bytes: total.written_bytes,
            syncs: total.syncs,
            rotations: total.rotations,
            segments_removed: total.segments_removed,
            preparation_failures: total.preparation_failures,
            full_refusals: total.full_refusals,
            statistics_failures: total.statistics_failures,
            append_nanos: total.append,
            sync_nanos: total.sync,
            prepare_wait_nanos: total.prepare_wait,
        },
    }
}

pub(super) fn mode(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::Sync => "sync",
        SyncMode::Batch { .. } => "batch",
        SyncMode::None => "none",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wal::{Background, Config, ManualClock, Wal};

    use super::*;

    /// What a log says at second 100, and means to say again every second.
    fn said() -> Box<Statistics> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let interval = Duration::from_secs(1);
        let config = Config {
            background: Background::Inline,
            statistics_interval: Some(interval),
            reserve_bytes: 0,
            ..Config::default()
        };
        let clock = Arc::new(ManualClock::default());
        let log = Wal::opener(config).clock(clock.clone()).open(dir.path().join("log")).expect("it opens");
        clock.advance(100 * interval);
        log.poll().expect("it is healthy");
        let file = statistics(&RealFileSystem, log.path()).expect("it can be read");
        log.close().expect("it closes");
        match file {
            StatisticsFile::Valid(said) => said,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statistics_are_news_only_while_the_log_is_in_use_and_they_are_young() {
        let state = |is_in_use, seconds: u64| judge(said(), is_in_use, Duration::from_secs(seconds)).view();
        assert_eq!(state(true, 100).state, "live");
        assert_eq!(state(true, 104).state, "live");
        for (is_in_use, seconds, words) in [
            (true, 105, "hangs, or another process writes"),
            (false, 100, "holds the log no more"),
            (false, 100_000, "27 h ago"),
            (true, 98, "in the future"),
        ] {
            let view = state(is_in_use, seconds);
            let why = view.why.expect("it says why");
            assert!(view.state == "stale" && view.news.is_none() && why.contains(words), "{why}");
        }
    }
}
