//! Makes the next segment ready, off the append path: blocks written or reserved, name durable, header blank.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::AlignedBuffer;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::{CommitError, LogDir, LogFile};
use crate::metrics::Metrics;
use crate::segment::header::HEADER_BYTES;
use crate::segment::name;
use crate::segment::writer::ReadySegment;
use crate::sync::Mutex;

/// What is written at once where direct I/O fills a segment. Half of it delays an append less and twice as many, twice of it makes the rare slow
/// appends slower.
const FILL_BYTES: u64 = if cfg!(wal_scheduled) { 4 << 10 } else { 128 << 10 };
/// What is written at once while appends wait for the segment: nobody is delayed by a large step then, and all by many small ones.
const AWAITED_FILL_BYTES: u64 = if cfg!(wal_scheduled) { 4 << 10 } else { 1 << 20 };
/// So many segments are preallocated before the next one is filled and measured again.
const PREALLOCATED_MAX: u32 = 15;

/// How the next step of filling a segment is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Now, and small, because appends go on meanwhile.
    Small,
    /// Now, and small, but the filling is late by a quarter of the segment: appends will wait for it. So large were their groups on average.
    Late { group_bytes: u64 },
    /// Now, and large, because appends wait for the segment.
    Large { group_bytes: u64 },
    /// Not at all: nobody will use the segment.
    GiveUp,
}

/// Asked before each step with the bytes that are filled already and the size of the segment. May wait.
pub(crate) type Pace<'a> = dyn Fn(u64, u64) -> Step + 'a;

/// What it took to fill a segment that appends waited for.
#[derive(Clone, Copy, Debug, Default)]
struct FillCosts {
    /// The large steps, and the bytes that they wrote.
    steps: Duration,
    bytes: u64,
    /// The sync that made it all durable.
    sync: Duration,
    /// How many segments were preallocated since.
    preallocated: u32,
}

impl FillCosts {
    /// Whether it takes longer to fill the place of a group than to write the group into space that is only preallocated. There each durable
    /// write has the file system commit its journal, which takes about as long as the sync of a new segment.
    fn exceed_preallocation(&self, group_bytes: u64) -> bool {
        self.preallocated < PREALLOCATED_MAX
            && self.steps.as_nanos() * u128::from(group_bytes) > self.sync.as_nanos() * u128::from(self.bytes)
    }
}

/// Makes segments ready. Called by one thread at a time.
#[derive(Debug)]
pub(crate) struct Preparer {
    dir: LogDir,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    segment_bytes: u64,
    recycled_max: usize,
    /// Segments are written with direct I/O.
    is_direct: bool,
    /// Numbers of removed segments whose files wait under their recycle names.
    recycled: Mutex<Vec<u64>>,
    /// Of the last segment that was filled in large steps.
    costs: Mutex<FillCosts>,
}

impl Preparer {
    pub(crate) fn new(
        dir: LogDir,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        config: &Config,
        is_direct: bool,
    ) -> Preparer {
        Preparer {
            dir,
            metrics,
            clock,
            segment_bytes: config.segment_bytes_max,
            recycled_max: config.recycle_segments_max,
            is_direct,
            recycled: Mutex::default(),
            costs: Mutex::default(),
        }
    }

    /// Makes segment `number` ready, in steps that `pace` decides on. A failure leaves nothing behind that a second attempt could
    /// stumble over.
    pub(crate) fn prepare(&self, number: u64, pace: &Pace<'_>) -> Result<ReadySegment, CommitError> {
        let result = match self.take_recycled() {
            Some(old) => self.prepare_recycled(number, old),
            None => self.prepare_new(number, pace),
        };
        if result.is_ok() {
            self.metrics.segments_prepared.add(1);
        }
        result
    }

    fn prepare_new(&self, number: u64, pace: &Pace<'_>) -> Result<ReadySegment, CommitError> {
        let prepared = name::prepare(number);
        let (mut costs, mut filled_at) = (FillCosts::default(), Duration::ZERO);
        let fill = |file: &LogFile| {
            self.fill(&prepared, file, pace, &mut costs)?;
            filled_at = self.clock.monotonic();
            Ok(())
        };
        let file = self.dir.create_filled(&prepared, fill).map_err(harmless)?;
        if costs.bytes > 0 {
            costs.sync = self.clock.monotonic().saturating_sub(filled_at);
            *self.costs.lock() = costs;
        }
        self.give_name(&prepared, number, file, false)
    }

    /// Fills a new segment with zeros, where groups are written with direct I/O in steps past the page cache, whose large ones are added to
    /// `costs`. The rest is preallocated once that is better for the appends that wait.
    fn fill(&self, name: &str, file: &LogFile, pace: &Pace<'_>, costs: &mut FillCosts) -> Result<()> {
        let bytes = self.segment_bytes;
        let direct = if self.is_direct { self.dir.open_direct_unsynced(name)? } else { None };
        let Some(direct) = direct else { return file.write_zeros(0, bytes) };
        file.set_len(bytes)?;
        let mut zeros = AlignedBuffer::default();
        let mut at = 0;
        while at < bytes {
            let step_max = match pace(at, bytes) {
                Step::Late { group_bytes } | Step::Large { group_bytes }
                    if self.preallocate_rest(file, at, group_bytes)? =>
                {
                    return Ok(());
                }
                Step::Small | Step::Late { .. } => FILL_BYTES,
                Step::Large { .. } => AWAITED_FILL_BYTES,
                Step::GiveUp => {
                    let detail = "the log takes no more records and needs no further segment";
                    return Err(Error::new(ErrorKind::Closed, "prepare segment", detail).at_path(file.path()));
                }
            };
            let step = step_max.min(bytes - at) as usize;
            zeros.extend_zeros(step.saturating_sub(zeros.len()));
            let began = self.clock.monotonic();
            direct.write_at(&zeros.as_slice()[..step], at)?;
            if step_max == AWAITED_FILL_BYTES {
                costs.steps += self.clock.monotonic().saturating_sub(began);
                costs.bytes += step as u64;
            }
            at += step as u64;
        }
        Ok(())
    }

    /// Gives the segment the space that is not filled yet, if groups of this size are written there sooner than when it is filled first.
    fn preallocate_rest(&self, file: &LogFile, filled: u64, group_bytes: u64) -> Result<bool> {
        let is_better = self.costs.lock().exceed_preallocation(group_bytes);
        let is_done = is_better && file.preallocate(filled, self.segment_bytes)?;
        self.costs.lock().preallocated += u32::from(is_done);
        Ok(is_done)
    }

    fn prepare_recycled(&self, number: u64, old: u64) -> Result<ReadySegment, CommitError> {
        let recycled = name::recycle(old);
        // The old header goes, durably, before the file gets its new name: under no name is it ever taken for what it was.
        let blanked = self.dir.open_file(&recycled, OpenMode::Write).and_then(|file| {
            file.write_at(&[0; HEADER_BYTES as usize], 0)?;
            file.sync_data()?;
            Ok(file)
        });
        let file = blanked.map_err(|error| harmless(self.dir.discard(&recycled, error)))?;
        let ready = self.give_name(&recycled, number, file, true)?;
        self.metrics.segments_recycled.add(1);
        Ok(ready)
    }

    fn give_name(
        &self,
        from: &str,
        number: u64,
        file: LogFile,
        is_recycled: bool,
    ) -> Result<ReadySegment, CommitError> {
        let to = name::segment(number);
        self.dir.rename_durably(from, &to)?;
        // Errors are to name the segment, not the name it was born with.
        let file = file.renamed(self.dir.path_of(&to));
        let direct = if self.is_direct { self.dir.open_direct(&to).map_err(harmless)? } else { None };
        Ok(ReadySegment { number, file, direct, file_bytes: self.segment_bytes, is_recycled })
    }

    fn take_recycled(&self) -> Option<u64> {
        self.recycled.lock().pop()
    }

    /// Removes the name of segment `number`, or keeps its file to be used again if `may_recycle`, it has the right size and no other
    /// name, and there is room for it. Not durable before the directory is synced. Returns the file that lost its name, and its size.
    pub(crate) fn retire(&self, number: u64, may_recycle: bool) -> Result<Option<(LogFile, u64)>> {
        let name = name::segment(number);
        // What cannot be written can be removed all the same.
        let found =
            self.dir.find_file(&name, OpenMode::Write).or_else(|_| self.dir.find_file(&name, OpenMode::Read))?;
        let Some(file) = found else { return Ok(None) };
        let bytes = file.len()?;
        let mut recycled = self.recycled.lock();
        // A file that was given another name is kept there by somebody, as a backup by hard links does.
        let may_recycle = may_recycle && !file.has_another_name()?;
        if may_recycle && recycled.len() < self.recycled_max && bytes == self.segment_bytes {
            self.dir.rename(&name, &name::recycle(number))?;
            recycled.push(number);
            return Ok(None);
        }
        drop(recycled);
        self.dir.remove(&name)?;
        Ok(Some((file, bytes)))
    }

    /// Removes all files that wait to be used again, to free their space or to leave nothing behind at close.
    pub(crate) fn drop_recycled(&self) -> Result<u64> {
        let mut bytes = 0;
        while let Some(number) = self.take_recycled() {
            if self.dir.remove(&name::recycle(number))? {
                bytes += self.segment_bytes;
            }
        }
        Ok(bytes)
    }
}

fn harmless(error: Error) -> CommitError {
    CommitError { error, is_unsure: false }
}
