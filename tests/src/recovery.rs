//! Recovery of one image of a log: what it shows, and whether that is durable, sound and a log that goes on.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use wal::fs::sim::{CrashPlan, SimFs};
use wal::inspect::{Depth, Outcome, survey};
use wal::{LogReader, Lsn, ManualClock, Wal};

use crate::oracle::{Allowed, Observed, frame_bytes};
use crate::rng::{Rng, mix};
use crate::settings::Setup;

/// Where the log is.
pub const DIR: &str = "/log";
/// Its id.
pub const LOG_ID: [u8; 16] = *b"wal-tests-log-id";

const SHARDS: usize = 16;

/// Opens the log on this file system, as the settings say.
pub fn open(fs: &SimFs, setup: &Setup, clock: &Arc<ManualClock>) -> wal::Result<Wal> {
    setup.opening.open(fs, setup, Arc::clone(clock) as Arc<dyn wal::Clock>)
}

/// What an open log shows.
pub fn observe(log: &Wal) -> wal::Result<Observed> {
    let records = collect(log.reader(Lsn::ZERO)?)?;
    Ok(Observed {
        records,
        start: log.start_lsn().get(),
        next: log.next_lsn().get(),
        checkpoint: log.checkpoint_lsn().map(Lsn::get),
    })
}

fn collect(reader: wal::Reader) -> wal::Result<Vec<(u64, u16, Vec<u8>)>> {
    let mut records = Vec::new();
    for record in reader {
        let record = record?;
        records.push((record.lsn.get(), record.record_type.get(), record.payload));
    }
    Ok(records)
}

/// Checks that a reader of the files, and a survey of all of them, see the same undamaged log.
pub fn check_files(fs: &SimFs, expected: &Observed) -> Result<(), String> {
    let reader = LogReader::open_with(fs, DIR).map_err(say("reader of the files"))?;
    let records = reader.reader(Lsn::ZERO).and_then(collect).map_err(say("reader of the files"))?;
    if records != expected.records {
        return Err(format!("a reader of the files sees {}, not {}", list(&records), list(&expected.records)));
    }
    let survey = survey(fs, DIR, Depth::Full, |_| {}).map_err(say("survey"))?;
    match &survey.outcome {
        Outcome::Fail(error) => return Err(format!("the survey says: {error:?}")),
        Outcome::Cut { .. } => return Err(format!("the survey says: {:?}", survey.outcome)),
        _ => {}
    }
    match survey.segments.iter().find(|segment| segment.damage.is_some()) {
        Some(damaged) => Err(format!("the survey sees damage: {damaged:?}")),
        None => Ok(()),
    }
}

fn list(records: &[(u64, u16, Vec<u8>)]) -> String {
    let mut text = format!("{} records", records.len());
    for (lsn, _, payload) in records {
        write!(text, " {lsn}+{}", payload.len()).expect("a string takes everything");
    }
    text
}

fn say(what: &'static str) -> impl Fn(wal::Error) -> String {
    move |error| format!("{what}: {error:?}")
}

/// A panic of the log is a broken promise like any other, told with its message.
pub fn without_panic<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(format!("panics: {text}"))
    })
}

/// A hash of what programs see, of what a crash would leave, and of what a sync of everything would still save: equal keys, equal
/// recoveries.
pub fn key(fs: &SimFs) -> u64 {
    fs.state_fingerprint()
}

/// What recovery made of an image: a log that shows this, or a broken promise.
pub type Verdict = Result<Arc<Observed>, Arc<str>>;

/// What recovery made of each image so far, so that equal images are recovered once.
///
/// Images of the same settings only. Recovery of an image is a function of its bytes and names, unless the file system fails calls
/// at random or runs full; then nothing is remembered.
#[derive(Debug)]
pub struct Memory {
    /// By the key of the image.
    images: [Mutex<HashMap<u64, Verdict>>; SHARDS],
    /// By the key of what recovery made of it.
    recovered: [Mutex<HashMap<u64, Verdict>>; SHARDS],
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            images: std::array::from_fn(|_| Mutex::default()),
            recovered: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Memory {
    /// How many distinct images were recovered.
    pub fn images(&self) -> u64 {
        count(&self.images)
    }

    /// How many distinct logs recovery made of them.
    pub fn recovered(&self) -> u64 {
        count(&self.recovered)
    }

    /// Recovers the image, unless an equal one was recovered before.
    pub fn recover(&self, setup: &Setup, fs: &SimFs) -> Verdict {
        let sim = &setup.sim;
        let is_limited = sim.capacity.is_some() || sim.quota.is_some() || sim.files_max.is_some();
        if is_limited || sim.short_transfers || sim.interrupts {
            return recover(fs, setup, None, 0);
        }
        let image = key(fs);
        if let Some(known) = look_up(&self.images, image) {
            return known;
        }
        let verdict = recover(fs, setup, Some(self), 0);
        remember(&self.images, image, &verdict);
        verdict
    }
}

type Shards = [Mutex<HashMap<u64, Verdict>>; SHARDS];

fn shard(shards: &Shards, key: u64) -> &Mutex<HashMap<u64, Verdict>> {
    &shards[(key % SHARDS as u64) as usize]
}

fn look_up(shards: &Shards, key: u64) -> Option<Verdict> {
    shard(shards, key).lock().expect("nobody panics with it").get(&key).cloned()
}

fn remember(shards: &Shards, key: u64, verdict: &Verdict) {
    shard(shards, key).lock().expect("nobody panics with it").insert(key, verdict.clone());
}

fn count(shards: &Shards) -> u64 {
    shards.iter().map(|shard| shard.lock().expect("nobody panics with it").len() as u64).sum()
}

/// Recovers an image. What follows a recovery is looked at once for each log that recovery makes.
fn recover(fs: &SimFs, setup: &Setup, memory: Option<&Memory>, seed: u64) -> Verdict {
    without_panic(|| {
        let clock = Arc::new(ManualClock::default());
        let log = open(fs, setup, &clock).map_err(say("the log does not open"))?;
        let observed = observe(&log).map_err(say("the recovered log cannot be read"))?;
        let key = key(fs);
        if let Some(known) = memory.and_then(|memory| look_up(&memory.recovered, key)) {
            let known = known.map_err(|why| why.to_string())?;
            return if *known == observed {
                Ok(known)
            } else {
                Err(format!("equal files show {} and {}", list(&known.records), list(&observed.records)))
            };
        }
        let verdict = look_after(fs, setup, &log, observed, mix(key, seed)).map(Arc::new);
        if let Some(memory) = memory {
            remember(&memory.recovered, key, &verdict.clone().map_err(Arc::from));
        }
        verdict
    })
    .map_err(Arc::from)
}

/// What was recovered is sound and durable, the log goes on, and what is appended then is there after a close or a crash.
fn look_after(fs: &SimFs, setup: &Setup, log: &Wal, observed: Observed, seed: u64) -> Result<Observed, String> {
    check_files(fs, &observed)?;
    let clock = Arc::new(ManualClock::default());
    let after = fs.crash(&CrashPlan::keep_nothing());
    let again = open(&after, setup, &clock).map_err(say("does not open after a crash that follows the open"))?;
    let seen = observe(&again).map_err(say("cannot be read after a crash that follows the open"))?;
    same(&observed, &seen, seen.next).map_err(|why| format!("after a crash that follows the open: {why}"))?;
    drop(again);
    go_on(fs, setup, log, &observed, &mut Rng::new(seed))?;
    Ok(observed)
}

/// The same records; a log without any may start anywhere up to `start_max`.
fn same(expected: &Observed, seen: &Observed, start_max: u64) -> Result<(), String> {
    let starts = expected.start..=if expected.records.is_empty() { start_max } else { expected.start };
    let is_same = seen.records == expected.records && seen.checkpoint == expected.checkpoint;
    if is_same && starts.contains(&seen.start) && seen.next >= expected.next {
        return Ok(());
    }
    let text = |log: &Observed| {
        format!("{} from {}, next {}, checkpoint {:?}", list(&log.records), log.start, log.next, log.checkpoint)
    };
    Err(format!("{}; expected was {}", text(seen), text(expected)))
}

/// Appends to a recovered log, ends it with a close or a crash, and looks whether everything is there.
fn go_on(fs: &SimFs, setup: &Setup, log: &Wal, observed: &Observed, rng: &mut Rng) -> Result<(), String> {
    let clock = Arc::new(ManualClock::default());
    let payload = vec![0xAB; rng.pick(&[5, 300, 4072])];
    let lsn = log.append(&payload).map_err(say("append after recovery"))?.get();
    if lsn < observed.next {
        return Err(format!("after recovery LSN {lsn} is handed out, the next was to be {}", observed.next));
    }
    let durable = log.flush().map_err(say("flush after recovery"))?.get();
    let end = lsn + frame_bytes(payload.len());
    if durable < end {
        return Err(format!("after a flush the durable LSN is {durable}, the last record is at {lsn}"));
    }
    let mut expected = observed.clone();
    expected.records.push((lsn, 0, payload));
    expected.next = end;
    let next = if rng.percent(50) {
        log.close().map_err(say("close after recovery"))?;
        check_files(fs, &expected).map_err(|why| format!("after a clean close: {why}"))?;
        fs.crash(&if rng.percent(50) { CrashPlan::keep_nothing() } else { CrashPlan::keep_everything() })
    } else {
        fs.crash(&CrashPlan::random(rng.number()))
    };
    let again = open(&next, setup, &clock).map_err(say("does not open after the append that follows recovery"))?;
    let mut seen = observe(&again).map_err(say("cannot be read after the append that follows recovery"))?;
    if observed.records.is_empty() && (observed.start..=lsn).contains(&seen.start) {
        seen.start = expected.start;
    }
    same(&expected, &seen, lsn).map_err(|why| format!("after recovery, append and reopen: {why}"))
}

/// Recovers one image and checks what is there against what is allowed.
pub fn check_recovery(fs: &SimFs, setup: &Setup, allowed: &Allowed, seed: u64) -> Result<Observed, String> {
    let observed = recover(fs, setup, None, seed).map_err(|why| why.to_string())?;
    check(allowed, &observed)?;
    Ok(Arc::unwrap_or_clone(observed))
}

/// Checks what is there against what is allowed.
pub fn check(allowed: &Allowed, observed: &Observed) -> Result<(), String> {
    allowed.check(observed).map_err(|why| format!("{why}; found {}", list(&observed.records)))
}
