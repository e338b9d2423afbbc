//! Writing the statistics file of an open log, for those who look at it from outside.
//!
//! The log does not rely on the file: it is overwritten in place and never synced, and that it could not be written is counted and
//! concerns nobody else. A thread of its own writes it, so that neither an append nor a sync ever waits for it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::clock::Clock;
use crate::error::Result;
use crate::event::Event;
use crate::fs::OpenMode;
use crate::fs::durable::LogDir;
use crate::metrics::{Metrics, Stats, Summary};
use crate::segment::name;
use crate::statistics::{Recent, Statistics};
use crate::sync::Mutex;

/// When the file is written, and what is needed to say what came since the last time.
///
/// Its lock is held while the file is written, and while what stands in it is gathered, so it comes before the locks of the commit path.
/// Nobody waits for it but who closes the log.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Wakes the thread when the log is closed.
    pub(crate) event: Event,
    opened_micros: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_ended: bool,
    sequence: u64,
    last: Baseline,
}

/// What the log had done when the file was written last.
#[derive(Debug)]
struct Baseline {
    at: Duration,
    stats: Stats,
    distributions: Option<[Histogram<u64>; 4]>,
}

impl Publisher {
    pub(crate) fn new(clock: &dyn Clock) -> Publisher {
        let last = Baseline { at: clock.monotonic(), stats: Stats::default(), distributions: None };
        Publisher {
            event: Event::default(),
            opened_micros: clock.unix_micros(),
            state: Mutex::new(State { is_ended: false, sequence: 0, last }),
        }
    }

    /// When the file is to be written again. The first time is one interval after the open, so that a log that is open for a moment
    /// leaves no trace.
    pub(crate) fn deadline(&self, clock: &dyn Clock, interval: Duration) -> Instant {
        let due = self.state.lock().last.at + interval;
        Instant::now() + due.saturating_sub(clock.monotonic())
    }

    pub(crate) fn is_due(&self, clock: &dyn Clock, interval: Duration) -> bool {
        clock.monotonic() >= self.state.lock().last.at + interval
    }

    /// Writes what `gather` says, completed by when and how often, and by what came since the last time. Does nothing once
    /// [`Publisher::end`] was called.
    pub(crate) fn publish(
        &self,
        dir: &LogDir,
        clock: &dyn Clock,
        metrics: &Metrics,
        gather: impl FnOnce() -> Statistics,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_ended {
            return Ok(());
        }
        let now = clock.monotonic();
        let distributions = metrics.distributions();
        let gathered = gather();
        let recent = recent(&state.last, now, &gathered.total, &distributions);
        state.last = Baseline { at: now, stats: gathered.total.clone(), distributions: Some(distributions) };
        state.sequence += 1;
        let statistics = Statistics {
            process: std::process::id().into(),
            sequence: state.sequence,
            opened_micros: self.opened_micros,
            written_micros: clock.unix_micros(),
            recent,
            ..gathered
        };
        write(dir, &statistics)
    }

    /// The log is closed: the file is written no more, and is removed unless `is_kept`.
    pub(crate) fn end(&self, dir: &LogDir, is_kept: bool) -> Result<()> {
        let mut state = self.state.lock();
        state.is_ended = true;
        if is_kept || state.sequence == 0 { Ok(()) } else { dir.remove(name::STATISTICS).map(drop) }
    }
}

/// Writes the file over itself, or creates it. A reader that comes in between sees that the checksum is wrong.
fn write(dir: &LogDir, statistics: &Statistics) -> Result<()> {
    let file = match dir.find_file(name::STATISTICS, OpenMode::Write)? {
        Some(file) => file,
        None => dir.open_file(name::STATISTICS, OpenMode::CreateNew)?,
    };
    let bytes = statistics.encode();
    file.write_at(&bytes, 0)?;
    // Somebody else may have written to it.
    if file.len()? > bytes.len() as u64 { file.set_len(bytes.len() as u64) } else { Ok(()) }
}

fn recent(last: &Baseline, now: Duration, total: &Stats, distributions: &[Histogram<u64>; 4]) -> Recent {
    let since = |index: usize| {
        let mut histogram = distributions[index].clone();
        if let Some(before) = &last.distributions {
            histogram.subtract(&before[index]).expect("a distribution has the same bounds always and only grows");
        }
        Summary::of(&histogram)
    };
    Recent {
        duration: now.saturating_sub(last.at),
        records: total.records - last.stats.records,
        payload_bytes: total.payload_bytes - last.stats.payload_bytes,
        groups: total.groups - last.stats.groups,
        syncs: total.syncs - last.stats.syncs,
        append: since(0),
        sync: since(1),
        group_records: since(2),
        group_bytes: since(3),
    }
}
