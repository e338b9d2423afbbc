//! Power cuts: a workload is recorded once, and then the power goes at many moments of it.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use wal::FoundState;
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::check::{self, Opened};
use crate::device::Recorded;
use crate::full;
use crate::history::{Found, History};
use crate::kind::FsKind;
use crate::report::Counts;
use crate::rig::Rig;
use crate::stream::{Cut, ImageSummary, Kept};
use crate::workload::{self, Mode, Numbers, Plan};

/// The recording of the workload.
pub const FIRST_LIFE: u32 = 0;
/// The recording of what follows a power cut.
const SECOND_LIFE: u32 = 1;

/// Numbers of payloads that are appended after a power cut.
const SECOND_NUMBERS: u64 = 1 << 40;
const THIRD_NUMBERS: u64 = 1 << 41;

/// So many power cuts in the recovery from one that is followed up.
const CUTS_IN_RECOVERY: u64 = 4;

/// A power cut that was not survived, with all that it takes to see it again. The recordings lie beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The file system.
    pub kind: FsKind,
    /// The workload.
    pub plan: Plan,
    /// What it did.
    pub history: History,
    /// The power cut.
    pub cut: Cut,
    /// A second one, while the log was opened after the first.
    pub cut_in_recovery: Option<Cut>,
    /// What was wrong.
    pub message: String,
}

/// A recorded workload.
#[derive(Debug)]
pub struct Workload {
    /// What was asked for.
    pub plan: Plan,
    /// What was done.
    pub history: History,
    /// What the device saw of it.
    pub recorded: Recorded,
}

/// Cuts the power again and again, and counts.
#[derive(Debug)]
pub struct Campaign<'a> {
    /// The device.
    pub rig: &'a mut Rig,
    /// What is counted.
    pub counts: &'a mut Counts,
    /// Where failures are kept.
    pub keep: &'a Path,
    /// Notices when nothing goes on.
    pub watchdog: &'a Watchdog,
    /// The device had failed, so the kernel may refuse to mount an image.
    pub may_refuse: bool,
    /// The disk is full, so that an append may be refused.
    pub may_be_full: bool,
}

/// What became of one power cut.
enum Outcome {
    /// The contract was kept.
    Passed,
    /// The file system could not be mounted.
    Refused(String),
}

impl<'a> Campaign<'a> {
    /// On a device that works and is not full.
    pub fn new(rig: &'a mut Rig, counts: &'a mut Counts, keep: &'a Path, watchdog: &'a Watchdog) -> Campaign<'a> {
        Campaign { rig, counts, keep, watchdog, may_refuse: false, may_be_full: false }
    }
}

impl Campaign<'_> {
    /// Makes a file system, runs the workload on it, and records.
    ///
    /// # Errors
    ///
    /// What went wrong without any power cut.
    pub fn record(&mut self, plan: Plan) -> Result<Workload, String> {
        let text = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        self.watchdog.beat(|| format!("workload {plan:?}"));
        self.rig.make().map_err(text("make the file system"))?;
        self.rig.mount().map_err(text("mount the file system"))?;
        self.rig.sync().map_err(text("sync the file system"))?;
        self.rig.record(FIRST_LIFE).map_err(text("record"))?;
        let (history, failure) = workload::run(&self.rig.log_dir(), &plan, &self.rig.clock(), &Numbers::from(1));
        self.rig.unmount().map_err(text("unmount"))?;
        let recorded = self.rig.stop().map_err(text("stop"))?;
        if let Some(error) = failure {
            return Err(format!("the workload {plan:?} failed on a device that does not: {error}"));
        }
        self.counts.recorded(&recorded, &history);
        Ok(Workload { plan, history, recorded })
    }

    /// Cuts the power of a recorded workload so many times. Returns how many cuts were not survived.
    pub fn cut(&mut self, workload: &Workload, count: u64, lies: bool) -> u64 {
        let mut rng = Rng::new(workload.plan.seed ^ 0xC07);
        let mut cuts: Vec<Cut> =
            (0..count).map(|_| choose(&mut rng, &workload.history, &workload.recorded, lies)).collect();
        cuts.sort_by_key(|cut| cut.at);
        let mut failures = 0;
        for (index, cut) in cuts.iter().enumerate() {
            let goes_deeper = !lies && index % 10 == 3;
            if let Err(failure) = self.one(workload, *cut, goes_deeper) {
                failures += 1;
                self.keep(&failure);
            }
        }
        failures
    }

    /// One power cut, and if asked for, some in the recovery from it.
    fn one(&mut self, workload: &Workload, cut: Cut, goes_deeper: bool) -> Result<(), Box<Failure>> {
        let kind = self.rig.kind();
        self.watchdog.beat(|| format!("{kind:?}, {:?}, {cut:?}", workload.plan));
        let failed = |cut_in_recovery, message| {
            let (plan, history) = (workload.plan, workload.history.clone());
            Box::new(Failure { kind, plan, history, cut, cut_in_recovery, message })
        };
        let summary = self.rig.cut_power(FIRST_LIFE, cut).map_err(|error| failed(None, error.to_string()))?;
        self.counts.image(cut.kept, &summary);
        if cut.lied_flushes > 0 {
            return self.survive_lie(workload, cut, &summary).map_err(|message| failed(None, message));
        }
        let mut second = None;
        match self.survive(workload, cut, goes_deeper, &mut second).map_err(|message| failed(None, message))? {
            Outcome::Passed => {}
            Outcome::Refused(why) if cut.kept == Kept::Torn || self.may_refuse => {
                self.counts.refused(&why);
                return Ok(());
            }
            Outcome::Refused(why) => return Err(failed(None, format!("the kernel does not mount the image: {why}"))),
        }
        let Some(second) = second else { return Ok(()) };
        let mut rng = Rng::new(cut.seed);
        for _ in 0..CUTS_IN_RECOVERY {
            let cut_again = choose(&mut rng, &second.life, &second.recorded, false);
            self.watchdog.beat(|| format!("{kind:?}, {:?}, {cut:?}, then {cut_again:?}", workload.plan));
            self.survive_again(workload, cut, &second, cut_again)
                .map_err(|message| failed(Some(cut_again), message))?;
        }
        Ok(())
    }

    /// Mounts the image, opens the log, compares, and goes on working.
    fn survive(
        &mut self,
        workload: &Workload,
        cut: Cut,
        goes_deeper: bool,
        second: &mut Option<SecondLife>,
    ) -> Result<Outcome, String> {
        let text = |error: std::io::Error| error.to_string();
        if goes_deeper {
            self.rig.record(SECOND_LIFE).map_err(text)?;
        }
        if let Err(error) = self.rig.mount() {
            if goes_deeper {
                self.rig.stop().map_err(text)?;
            }
            return Ok(Outcome::Refused(error.to_string()));
        }
        let result = self.live_on(workload, cut);
        self.rig.unmount().map_err(text)?;
        let stopped = if goes_deeper { Some(self.rig.stop().map_err(text)?) } else { None };
        let (found, opened, life) = result?;
        *second = stopped.map(|recorded| SecondLife { found, opened, life, recorded });
        Ok(Outcome::Passed)
    }

    fn live_on(&mut self, workload: &Workload, cut: Cut) -> Result<(Found, u64, History), String> {
        let clock = self.rig.clock();
        let opened = self.open(workload).map_err(|error| format!("the log does not open: {error}"))?;
        workload.history.check(&opened.found, cut.at)?;
        self.counts.opened(opened.state, &opened.found);
        let (found, moment) = (opened.found.clone(), opened.moment);
        let life = check::go_on(opened, &clock, SECOND_NUMBERS, self.may_be_full)?;
        Ok((found, moment, life))
    }

    /// Opens the log. On a full disk that may need room, and works once there is some.
    fn open(&mut self, workload: &Workload) -> wal::Result<Opened> {
        let (dir, config, clock) = (self.rig.log_dir(), workload.plan.config(), self.rig.clock());
        match check::open(&dir, config.clone(), &clock) {
            Err(error) if error.is_full() && self.may_be_full => {
                self.counts.count("opens that a full disk refused");
                let ballast = self.rig.files_dir().join(full::BALLAST);
                if std::fs::remove_file(ballast).and_then(|()| self.rig.sync()).is_err() {
                    return Err(error);
                }
                check::open(&dir, config, &clock)
            }
            other => other,
        }
    }

    /// A power cut in the recovery from a power cut: if the open had not returned, the content must be the same; if it had, all of it
    /// must be there, and what was appended since as the mode says.
    fn survive_again(&mut self, workload: &Workload, cut: Cut, second: &SecondLife, again: Cut) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        self.rig.cut_power(SECOND_LIFE, again).map_err(text)?;
        if let Err(error) = self.rig.mount() {
            if again.kept == Kept::Torn || self.may_refuse {
                self.counts.refused(&error.to_string());
                return Ok(());
            }
            return Err(format!("the kernel does not mount the image: {error}"));
        }
        let clock = self.rig.clock();
        let result = self
            .open(workload)
            .map_err(|error| format!("the log does not open after the second power cut: {error}"))
            .and_then(|opened| {
                second.check(&opened, again.at)?;
                let handed_out = workload.history.handed_out_at(cut.at).max(second.life.handed_out_at(again.at));
                if opened.found.next < handed_out {
                    return Err(format!("the next LSN is {}, {handed_out} was handed out", opened.found.next));
                }
                self.counts.opened_again();
                check::go_on(opened, &clock, THIRD_NUMBERS, self.may_be_full).map(drop)
            });
        self.rig.unmount().map_err(text)?;
        result
    }

    /// The device lied: what it lost may be noticed or be a lost suffix, but nothing in the middle may be missing in silence.
    fn survive_lie(&mut self, workload: &Workload, cut: Cut, summary: &ImageSummary) -> Result<(), String> {
        if let Err(error) = self.rig.mount() {
            self.counts.refused(&error.to_string());
            return Ok(());
        }
        let opened = check::open(&self.rig.log_dir(), workload.plan.config(), &self.rig.clock());
        let result = match opened {
            Ok(Opened { found, log, .. }) => {
                drop(log);
                self.counts.lie(summary.lied_about, false);
                workload.history.check_prefix(&found, cut.at)
            }
            Err(error) if error.is_corruption() && (error.lsn().is_some() || error.path().is_some()) => {
                self.counts.lie(summary.lied_about, true);
                if summary.lied_about == 0 { Err(format!("nothing was lost, and yet: {error}")) } else { Ok(()) }
            }
            Err(error) if is_read_error(&error) => {
                // btrfs has checksums of its own, and does not show a block that fails them.
                self.counts.count("lies reported by the file system as a read error");
                Ok(())
            }
            Err(error) => Err(format!("a device lied, and this is not said to be corruption: {error}")),
        };
        self.rig.unmount().map_err(|error| error.to_string())?;
        result
    }

    /// Shows a failure and keeps what it takes to see it again.
    pub fn keep(&mut self, failure: &Failure) {
        let number = self.counts.next_failure();
        let name = format!("{:?}-{:?}-{}-{number}", failure.kind, failure.plan.mode, failure.plan.seed);
        let path = self.keep.join(name.to_lowercase());
        eprintln!("FAILED: {}\n  {:?}\n  {:?}", failure.message, failure.plan, failure.cut);
        if let Some(cut) = failure.cut_in_recovery {
            eprintln!("  then {cut:?}");
        }
        match self.write(failure, &path) {
            Ok(()) => eprintln!("  see it again: power-cut again {}", path.with_extension("json").display()),
            Err(error) => eprintln!("  it could not be kept: {error}"),
        }
    }

    fn write(&mut self, failure: &Failure, path: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(self.keep)?;
        serde_json::to_writer(std::fs::File::create(path.with_extension("json"))?, failure)?;
        let path = std::path::absolute(path)?;
        self.rig.store(FIRST_LIFE, &path.with_extension("first"))?;
        if failure.cut_in_recovery.is_some() {
            self.rig.store(SECOND_LIFE, &path.with_extension("second"))?;
        }
        Ok(())
    }

    /// Cuts the power as in a failure that was kept. Returns what is wrong, if it still is.
    ///
    /// # Errors
    ///
    /// That what was kept cannot be read.
    pub fn again(&mut self, failure: Failure, path: &Path) -> std::io::Result<Option<String>> {
        self.rig.restore(FIRST_LIFE, &path.with_extension("first"))?;
        let recorded = Recorded::default();
        let workload = Workload { plan: failure.plan, history: failure.history, recorded };
        let Some(again) = failure.cut_in_recovery else {
            return Ok(self.one(&workload, failure.cut, false).err().map(|failure| failure.message));
        };
        // What the second life found is what the first power cut leaves.
        self.rig.cut_power(FIRST_LIFE, failure.cut)?;
        let mut second = None;
        if let Err(message) = self.survive(&workload, failure.cut, true, &mut second) {
            return Ok(Some(message));
        }
        let Some(second) = second else { return Ok(Some("the image is not mounted".to_owned())) };
        self.rig.restore(SECOND_LIFE, &path.with_extension("second"))?;
        Ok(self.survive_again(&workload, failure.cut, &second, again).err())
    }
}

fn is_read_error(error: &wal::Error) -> bool {
    error.kind() == wal::ErrorKind::Io
        && error.io_error().and_then(std::io::Error::raw_os_error) == Some(Errno::IO.raw_os_error())
}

/// What followed a power cut.
struct SecondLife {
    found: Found,
    opened: u64,
    life: History,
    recorded: Recorded,
}

impl SecondLife {
    fn check(&self, opened: &Opened, at: u64) -> Result<(), String> {
        let (before, now) = (&self.found.records, &opened.found.records);
        if !now.starts_with(before) {
            return Err(format!("the first open found {} records, the second {} others", before.len(), now.len()));
        }
        let newer = Found { records: now[before.len()..].to_vec(), ..opened.found.clone() };
        if at < self.opened && !newer.records.is_empty() {
            return Err(format!("the first open found {} records, the second {}", before.len(), now.len()));
        }
        self.life.check_prefix(&newer, at)?;
        let owed = self.life.durable_at(at);
        let last = now.last().map_or(0, |(lsn, _)| *lsn);
        let missing = self.life.appends.iter().flat_map(|append| &append.entries).find(|entry| entry.lsn < owed);
        match missing.filter(|entry| entry.lsn > last) {
            Some(entry) => Err(format!("{entry:?} was durable and is missing")),
            None => Ok(()),
        }
    }
}

/// Most cuts are at the moment of an acknowledgement or just before a flush, the others anywhere.
fn choose(rng: &mut Rng, history: &History, recorded: &Recorded, lies: bool) -> Cut {
    let (moments, flushes) = (&history.durable, &recorded.before_flushes);
    let at = match rng.below(10) {
        0..3 if !moments.is_empty() => moments[rng.below(moments.len() as u64) as usize].0,
        3..8 if !flushes.is_empty() => flushes[rng.below(flushes.len() as u64) as usize],
        _ => rng.below(recorded.writes + recorded.flushes + 1),
    };
    let lied_flushes = if lies { 1 + rng.below(12) } else { 0 };
    Cut { at, kept: rng.pick(&Kept::EACH), seed: rng.number(), lied_flushes }
}

/// The workload for a seed.
pub fn plan(mode: Mode, seed: u64) -> Plan {
    Plan { mode, seed, threads: 3, rounds: 5, appends: 24, is_plain: false }
}

/// Where failures are kept if nothing else is said.
pub fn usual_keep() -> PathBuf {
    std::env::temp_dir().join("wal-power-cut-failures")
}

/// How an open went, in one word.
pub fn word(state: FoundState) -> &'static str {
    match state {
        FoundState::Created => "created",
        FoundState::Clean => "clean",
        FoundState::Kept => "kept",
        _ => "cut",
    }
}
