//! What is done to a log while its device is recorded: appends from several threads, batches, tickets, truncation at both ends,
//! rotation, close and reopen.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wal::{Background, Config, Durability, Lsn, SyncMode, Ticket, TruncatePolicy, Wal};
use wal_tests::rng::Rng;

use crate::history::{Append, Change, Entry, History, frame_bytes};
use crate::payload::payload;
use crate::rig::Clock;

/// The three modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Mode {
    /// An append is durable when it returns.
    Sync,
    /// Synced after a delay or so many bytes.
    Batch,
    /// Synced when asked.
    None,
}

impl Mode {
    /// The setting of the log.
    pub fn sync_mode(self) -> SyncMode {
        match self {
            Mode::Sync => SyncMode::Sync,
            Mode::Batch => SyncMode::Batch { delay: Duration::from_millis(5), bytes: 24 << 10 },
            Mode::None => SyncMode::None,
        }
    }

    /// In batch mode, the bytes that may be lost.
    pub fn bytes_at_risk(self) -> Option<u64> {
        match self.sync_mode() {
            SyncMode::Batch { bytes, .. } => Some(bytes),
            _ => None,
        }
    }
}

/// The workload, but for its dice.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The mode of the log.
    pub mode: Mode,
    /// For the dice.
    pub seed: u64,
    /// Appending threads.
    pub threads: u64,
    /// Rounds, between which the end is cut or the log is opened anew.
    pub rounds: u64,
    /// Appends of a thread in a round.
    pub appends: u64,
    /// Nothing but appends and truncation: what a log on a failing device or a full disk is given to do.
    pub is_plain: bool,
}

impl Plan {
    /// Small segments, so that there is much structure to cut through, and by the seed one or the other way to write.
    pub fn config(&self) -> Config {
        Config {
            sync_mode: self.mode.sync_mode(),
            segment_bytes_max: if self.seed.is_multiple_of(3) { 32 << 10 } else { 64 << 10 },
            queue_bytes_max: 256 << 10,
            group_bytes_max: 32 << 10,
            direct_io: self.seed % 4 != 1,
            recycle_segments_max: if self.seed % 5 == 2 { 0 } else { 2 },
            verify_bytes_on_open: if self.seed.is_multiple_of(2) { 0 } else { 1 << 20 },
            background: Background::Threads,
            ..Config::default()
        }
    }
}

/// Numbers of payloads, each used once.
#[derive(Debug)]
pub struct Numbers(AtomicU64);

impl Numbers {
    /// From this one on.
    pub fn from(first: u64) -> Numbers {
        Numbers(AtomicU64::new(first))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Opens a log and works on it until the plan is carried out or the log fails. Returns what was done, with the first failure of the
/// log, if there was one.
pub fn run(dir: &Path, plan: &Plan, clock: &Clock, numbers: &Numbers) -> (History, Option<wal::Error>) {
    let mut history = History { bytes_at_risk: plan.mode.bytes_at_risk(), ..History::default() };
    let failure = match Wal::open(dir, plan.config()) {
        Ok(mut log) => work(&mut log, plan, clock, numbers, &mut history),
        Err(error) => Some(error),
    };
    (history, failure)
}

/// Works on an open log. Returns its first failure, if there was one.
pub fn work(log: &mut Wal, plan: &Plan, clock: &Clock, numbers: &Numbers, history: &mut History) -> Option<wal::Error> {
    let mut rng = Rng::new(plan.seed);
    let mut failure = None;
    for round in 0..plan.rounds {
        failure = append_and_truncate(log, plan, clock, numbers, rng.number(), history);
        if failure.is_none() && !plan.is_plain {
            failure = change(log, plan, clock, &mut rng, history).err();
            if failure.is_none() && round + 1 == plan.rounds && plan.seed.is_multiple_of(2) {
                failure = log.close().err();
            }
        }
        if failure.is_some() {
            break;
        }
    }
    history.sort();
    failure
}

/// One round: several threads append, and meanwhile the start of the log is moved.
fn append_and_truncate(
    log: &Wal,
    plan: &Plan,
    clock: &Clock,
    numbers: &Numbers,
    seed: u64,
    history: &mut History,
) -> Option<wal::Error> {
    let mut rng = Rng::new(seed);
    let results: Vec<(History, Option<wal::Error>)> = std::thread::scope(|scope| {
        let start = |thread: u64| {
            let writer = Writer {
                log,
                clock,
                numbers,
                is_sync: plan.mode == Mode::Sync,
                is_plain: plan.is_plain,
                rng: Rng::new(seed.wrapping_add(thread)),
                history: History::default(),
            };
            scope.spawn(move || writer.run(plan.appends))
        };
        let writers: Vec<_> = (0..plan.threads).map(start).collect();
        let truncated = truncate(log, clock, &mut rng, history);
        let mut results: Vec<_> =
            writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect();
        results.push((History::default(), truncated.err()));
        results
    });
    let mut failure = None;
    for (part, error) in results {
        history.absorb(part);
        failure = failure.or(error);
    }
    failure
}

/// Moves the start of the log some times, and declares a checkpoint now and then.
fn truncate(log: &Wal, clock: &Clock, rng: &mut Rng, history: &mut History) -> wal::Result<()> {
    for _ in 0..rng.below(4) {
        let durable = if rng.percent(50) { log.flush()? } else { log.durable_lsn() }.get();
        let start = log.start_lsn().get();
        history.durable.push((clock.now(), durable));
        let wanted = Lsn::new(start + durable.saturating_sub(start) * rng.below(60) / 100);
        if rng.percent(30) {
            log.declare_checkpoint(wanted)?;
        }
        let policy = rng.pick(&[TruncatePolicy::RewriteBoundary, TruncatePolicy::WholeSegments]);
        let began = clock.now();
        let result = log.truncate_before_with(wanted, policy);
        let lsn = match &result {
            Ok(truncation) => truncation.start_lsn.get(),
            // A truncation that failed may have been committed. It moves the start to a record that begins within this.
            Err(_) => wanted.get() + (64 << 10),
        };
        let returned = if result.is_ok() { clock.now() } else { u64::MAX };
        history.starts.push(Change { began, returned, lsn, next: 0 });
        match result {
            Err(error) if error.kind() != wal::ErrorKind::Refused => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What happens between two rounds: nothing, a flush, a cut of the end, or a close and an open.
fn change(log: &mut Wal, plan: &Plan, clock: &Clock, rng: &mut Rng, history: &mut History) -> wal::Result<()> {
    match rng.below(4) {
        0 => {
            let durable = log.flush()?.get();
            history.durable.push((clock.now(), durable));
        }
        1 => cut_end(log, clock, rng, history)?,
        2 => {
            let end = log.next_lsn().get();
            log.close()?;
            history.durable.push((clock.now(), end));
            *log = Wal::open(log.path(), plan.config())?;
        }
        _ => {}
    }
    Ok(())
}

fn cut_end(log: &Wal, clock: &Clock, rng: &mut Rng, history: &mut History) -> wal::Result<()> {
    history.sort();
    let start = log.start_lsn().get();
    let first = log.checkpoint_lsn().map_or(start, Lsn::get).max(start);
    let is_cut = |lsn: u64| history.ends.iter().any(|cut| (cut.lsn..cut.next).contains(&lsn));
    // A batch is kept or cut as a whole here; that a cut goes through one is tested elsewhere.
    let last_entries = history.appends.iter().filter_map(|append| append.entries.last());
    let last_entries: Vec<Entry> =
        last_entries.filter(|entry| entry.lsn >= first && !is_cut(entry.lsn)).copied().collect();
    if last_entries.is_empty() {
        return Ok(());
    }
    let kept = last_entries[last_entries.len() - 1 - rng.below(last_entries.len() as u64 / 3 + 1) as usize];
    let began = clock.now();
    let truncation = log.truncate_after(Lsn::new(kept.lsn))?;
    let change = Change { began, returned: clock.now(), lsn: kept.end(), next: truncation.next_lsn.get() };
    history.durable.push((change.returned, change.lsn));
    history.ends.push(change);
    Ok(())
}

/// A thread that appends.
struct Writer<'a> {
    log: &'a Wal,
    clock: &'a Clock,
    numbers: &'a Numbers,
    is_sync: bool,
    is_plain: bool,
    rng: Rng,
    history: History,
}

impl Writer<'_> {
    fn run(mut self, appends: u64) -> (History, Option<wal::Error>) {
        for _ in 0..appends {
            let result = match self.rng.below(100) {
                0..15 => self.batch(),
                15..25 => self.tickets(),
                25..30 => self.durable_record(),
                _ => self.record(),
            };
            if let Err(error) = result {
                return (self.history, Some(error));
            }
        }
        (self.history, None)
    }

    fn content(&mut self) -> (u64, usize) {
        let smallest = if self.is_plain { 32 } else { 0 };
        let len = match self.rng.below(20) {
            0 => smallest + self.rng.below(24),
            1 => 4000 + self.rng.below(300),
            2 => 8000 + self.rng.below(8000),
            _ => 32 + self.rng.below(900),
        };
        (self.numbers.next(), len as usize)
    }

    fn record(&mut self) -> wal::Result<()> {
        let (number, len) = self.content();
        let lsn = self.log.append(&payload(number, len)).inspect_err(|error| self.failed(&[(number, len)], error))?;
        self.acknowledged(lsn, &[(number, len)], self.is_sync);
        Ok(())
    }

    fn durable_record(&mut self) -> wal::Result<()> {
        let (number, len) = self.content();
        let options = wal::AppendOptions::new().durability(Durability::Durable);
        let appended = self.log.append_with(&payload(number, len), options);
        let lsn = appended.inspect_err(|error| self.failed(&[(number, len)], error))?;
        self.acknowledged(lsn, &[(number, len)], true);
        Ok(())
    }

    fn batch(&mut self) -> wal::Result<()> {
        let contents: Vec<(u64, usize)> =
            (0..2 + self.rng.below(4)).map(|_| self.content()).map(|(number, len)| (number, len.min(4100))).collect();
        let payloads: Vec<Vec<u8>> = contents.iter().map(|&(number, len)| payload(number, len)).collect();
        let lsns = self.log.append_batch(&payloads).inspect_err(|error| self.failed(&contents, error))?;
        self.acknowledged(lsns.first, &contents, self.is_sync);
        Ok(())
    }

    /// Several records in flight at once.
    fn tickets(&mut self) -> wal::Result<()> {
        let mut waiting: Vec<(Ticket, (u64, usize), u64)> = Vec::new();
        let mut failure = None;
        for _ in 0..2 + self.rng.below(4) {
            let content = self.content();
            match self.log.submit(&payload(content.0, content.1)) {
                Ok(ticket) => waiting.push((ticket, content, self.clock.now())),
                Err(error) => {
                    self.failed(&[content], &error);
                    failure = Some(error);
                    break;
                }
            }
        }
        for (ticket, content, placed) in waiting {
            match ticket.wait() {
                Ok(lsn) => {
                    self.acknowledged(lsn, &[content], self.is_sync);
                    let append = self.history.appends.last_mut().expect("it was just acknowledged");
                    append.placed = placed;
                }
                Err(error) => {
                    self.failed(&[content], &error);
                    failure = failure.or(Some(error));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// What failed may be there or not. What a full disk refused is not there, but a power cut may bring it back.
    fn failed(&mut self, contents: &[(u64, usize)], error: &wal::Error) {
        let list = if error.is_full() { &mut self.history.refused } else { &mut self.history.undecided };
        list.push(contents.to_vec());
    }

    fn acknowledged(&mut self, first: Lsn, contents: &[(u64, usize)], is_durable: bool) {
        let marked = self.log.durable_lsn().get();
        let moment = self.clock.now();
        let mut lsn = first.get();
        let mut entries = Vec::new();
        for &(number, len) in contents {
            entries.push(Entry { lsn, number, len });
            lsn += frame_bytes(len);
        }
        self.history.durable.push((moment, if is_durable { lsn.max(marked) } else { marked }));
        self.history.appends.push(Append { entries, placed: moment, returned: moment });
    }
}
