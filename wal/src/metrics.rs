//! Counters and latency histograms, readable at any time without stopping the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::lsn::Lsn;

/// The longest duration a histogram tells apart: one hour. Longer ones count as one hour.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// A histogram with two significant digits in bounded memory.
#[derive(Debug)]
pub(crate) struct Distribution {
    name: &'static str,
    histogram: Mutex<Histogram<u64>>,
}

impl Distribution {
    fn new(name: &'static str) -> Distribution {
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, 2).expect("the bounds are constant and valid");
        Distribution { name, histogram: Mutex::new(histogram) }
    }

    pub(crate) fn record(&self, value: u64) {
        self.histogram.lock().saturating_record(value.max(1));
        #[cfg(feature = "metrics")]
        metrics::histogram!(self.name).record(value as f64);
        #[cfg(not(feature = "metrics"))]
        let _ = self.name;
    }

    pub(crate) fn record_duration(&self, duration: Duration) {
        self.record(duration.as_nanos().min(u128::from(NANOS_MAX)) as u64);
    }

    fn summary(&self) -> Summary {
        Summary::of(&self.histogram.lock())
    }

    fn histogram(&self) -> Histogram<u64> {
        self.histogram.lock().clone()
    }
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// As [`Counter::add`] where the caller holds a lock that all who add hold: no locked instruction.
    pub(crate) fn add_under_lock(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that the log counts and measures.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) records: Counter,
    pub(crate) payload_bytes: Counter,
    pub(crate) groups: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) syncs: Counter,
    pub(crate) rotations: Counter,
    pub(crate) segments_prepared: Counter,
    pub(crate) segments_recycled: Counter,
    pub(crate) segments_removed: Counter,
    pub(crate) preparation_failures: Counter,
    pub(crate) full_refusals: Counter,
    pub(crate) statistics_failures: Counter,
    pub(crate) append: Distribution,
    pub(crate) sync: Distribution,
    pub(crate) write: Distribution,
    pub(crate) group_records: Distribution,
    pub(crate) group_bytes: Distribution,
    pub(crate) prepare_wait: Distribution,
    pub(crate) recovery: Distribution,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            records: Counter::default(),
            payload_bytes: Counter::default(),
            groups: Counter::default(),
            written_bytes: Counter::default(),
            syncs: Counter::default(),
            rotations: Counter::default(),
            segments_prepared: Counter::default(),
            segments_recycled: Counter::default(),
            segments_removed: Counter::default(),
            preparation_failures: Counter::default(),
            full_refusals: Counter::default(),
            statistics_failures: Counter::default(),
            append: Distribution::new("wal.append_nanos"),
            sync: Distribution::new("wal.sync_nanos"),
            write: Distribution::new("wal.write_nanos"),
            group_records: Distribution::new("wal.group_records"),
            group_bytes: Distribution::new("wal.group_bytes"),
            prepare_wait: Distribution::new("wal.prepare_wait_nanos"),
            recovery: Distribution::new("wal.recovery_nanos"),
        }
    }
}

/// A distribution in six numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Summary {
    /// How many values were recorded.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them are at most this.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1000 are at most this.
    pub p999: u64,
    /// The largest.
    pub max: u64,
}

impl Summary {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Summary {
        Summary {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// What a log has done since it was opened. Durations are in nanoseconds, two digits are significant.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// Records appended.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Groups written: each is one write.
    pub groups: u64,
    /// Bytes written into segments by groups, with frame headers, padding and segment headers.
    pub written_bytes: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Changes of the active segment.
    pub rotations: u64,
    /// Segments made ready ahead, new ones and recycled ones.
    pub segments_prepared: u64,
    /// Of these, the ones that use the blocks of a removed segment again.
    pub segments_recycled: u64,
    /// Segments removed by truncation.
    pub segments_removed: u64,
    /// Failed attempts to make a segment ready.
    pub preparation_failures: u64,
    /// Appends refused because the disk is full.
    pub full_refusals: u64,
    /// Failed attempts to write the statistics file. They harm nobody but those who look at it.
    pub statistics_failures: u64,
    /// Start of the log: no record is below it.
    pub start_lsn: Lsn,
    /// End of what is written.
    pub written_lsn: Lsn,
    /// End of what is durable.
    pub durable_lsn: Lsn,
    /// Segments on disk that hold the log, without prepared ones.
    pub segments: u64,
    /// Blocking appends, from call to acknowledgement. In `batch` and `none` mode one of 64 is measured.
    pub append: Summary,
    /// Syncs.
    pub sync: Summary,
    /// Writes of groups.
    pub write: Summary,
    /// Records in a group.
    pub group_records: Summary,
    /// Bytes in a group.
    pub group_bytes: Summary,
    /// Waits of an append for the next segment.
    pub prepare_wait: Summary,
    /// The recovery at open.
    pub recovery: Summary,
}

impl Metrics {
    /// The distributions of appends, syncs, records in a group and bytes in a group, as they are now.
    pub(crate) fn distributions(&self) -> [Histogram<u64>; 4] {
        [&self.append, &self.sync, &self.group_records, &self.group_bytes].map(Distribution::histogram)
    }

    /// All counters and distributions; the places in the log are for the caller to fill in.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            records: self.records.get(),
            payload_bytes: self.payload_bytes.get(),
            groups: self.groups.get(),
            written_bytes: self.written_bytes.get(),
            syncs: self.syncs.get(),
            rotations: self.rotations.get(),
            segments_prepared: self.segments_prepared.get(),
            segments_recycled: self.segments_recycled.get(),
            segments_removed: self.segments_removed.get(),
            preparation_failures: self.preparation_failures.get(),
            full_refusals: self.full_refusals.get(),
            statistics_failures: self.statistics_failures.get(),
            append: self.append.summary(),
            sync: self.sync.summary(),
            write: self.write.summary(),
            group_records: self.group_records.summary(),
            group_bytes: self.group_bytes.summary(),
            prepare_wait: self.prepare_wait.summary(),
            recovery: self.recovery.summary(),
            ..Stats::default()
        }
    }
}
