//! A file system without room: refused appends, truncation that makes room, and going on.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FallocateFlags;
use wal::{Lsn, Wal};
use wal_tests::rng::Rng;

use crate::check;
use crate::cuts::{Campaign, FIRST_LIFE, Workload};
use crate::history::{Change, History};
use crate::rig::Clock;
use crate::workload::{self, Mode, Numbers, Plan};

/// The file that leaves no room for others.
pub const BALLAST: &str = "ballast";

/// So often the disk gets full.
const FILLINGS: u64 = 4;

impl Campaign<'_> {
    /// One full file system, and power cuts in what happened on it. Returns how many of them were not survived.
    ///
    /// # Errors
    ///
    /// How the contract was broken, or what the operating system says.
    pub fn fill(&mut self, mode: Mode, seed: u64, cuts: u64) -> Result<u64, String> {
        let plan = Plan { mode, seed, threads: 3, rounds: 1, appends: 3000, is_plain: true };
        let kind = self.rig.kind();
        self.watchdog.beat(|| format!("{kind:?} full, {plan:?}"));
        let workload = self.work_until_full(plan).map_err(|why| format!("{plan:?}: {why}"))?;
        self.may_be_full = true;
        let failures = self.cut(&workload, cuts, false);
        self.may_be_full = false;
        Ok(failures)
    }

    fn work_until_full(&mut self, plan: Plan) -> Result<Workload, String> {
        let text = |error: io::Error| error.to_string();
        let clock = self.rig.clock();
        let dir = self.rig.log_dir();
        self.rig.make().map_err(text)?;
        self.rig.mount().map_err(text)?;
        let mut rng = Rng::new(plan.seed ^ 0xF011);
        let ballast = self.rig.files_dir().join(BALLAST);
        leave(&self.rig.files_dir(), &ballast, (600 << 10) + rng.below(600 << 10)).map_err(text)?;
        self.rig.sync().map_err(text)?;
        self.rig.record(FIRST_LIFE).map_err(text)?;
        let mut history = History { bytes_at_risk: plan.mode.bytes_at_risk(), ..History::default() };
        let numbers = Numbers::from(1);
        let mut log = Wal::open(&dir, plan.config()).map_err(|error| format!("open with little room: {error}"))?;
        let mut is_poisoned = false;
        for filling in 0..FILLINGS {
            self.watchdog.beat(|| format!("full for time {filling}, {plan:?}"));
            let plan = Plan { seed: plan.seed + filling * 1000, ..plan };
            match workload::work(&mut log, &plan, &clock, &numbers, &mut history) {
                Some(error) if error.is_full() => self.counts.count("disks that got full"),
                Some(error) if error.is_poisoned() && is_no_room(&error) => {
                    // The file system took the data and found at the sync that there is no room: the contract calls this poison.
                    self.counts.count("full disks found by a sync, which poisons");
                    is_poisoned = true;
                    break;
                }
                Some(error) => return Err(format!("on a full disk: {error}")),
                None => self.counts.count("fillings that found room for everything"),
            }
            self.make_room(&log, &clock, &mut history)?;
        }
        std::fs::remove_file(&ballast).map_err(text)?;
        self.rig.sync().map_err(text)?;
        if is_poisoned {
            drop(log);
            log = Wal::open(&dir, plan.config()).map_err(|error| format!("open after the poison: {error}"))?;
        }
        let after = Plan { seed: plan.seed + 77, appends: 20, ..plan };
        if let Some(error) = workload::work(&mut log, &after, &clock, &numbers, &mut history) {
            return Err(format!("with room again: {error}"));
        }
        self.counts.count("logs that went on with room");
        let found = check::content(&log).map_err(|error| error.to_string())?;
        log.close().map_err(|error| format!("close: {error}"))?;
        history.durable.push((clock.now(), log.next_lsn().get()));
        drop(log);
        if let Some((lsn, _)) = found.records.iter().find(|(_, bytes)| history.is_refused(bytes)) {
            return Err(format!("at LSN {lsn} a reader sees what the full disk refused"));
        }
        // What is shown by an open log is a prefix; its end may not be durable yet.
        history.check_prefix(&found, clock.now())?;
        self.rig.unmount().map_err(text)?;
        let recorded = self.rig.stop().map_err(text)?;
        self.counts.recorded(&recorded, &history);
        Ok(Workload { plan, history, recorded })
    }

    /// Truncation works on a full disk, and then appends do.
    fn make_room(&mut self, log: &Wal, clock: &Clock, history: &mut History) -> Result<(), String> {
        let flushed = log.flush().map_err(|error| format!("flush on a full disk: {error}"))?;
        history.durable.push((clock.now(), flushed.get()));
        let start = log.start_lsn().get();
        let wanted = Lsn::new(start + (flushed.get() - start) * 3 / 4);
        log.declare_checkpoint(wanted).map_err(|error| format!("declare a checkpoint on a full disk: {error}"))?;
        let began = clock.now();
        let truncation = log.truncate_before(wanted).map_err(|error| format!("truncate on a full disk: {error}"))?;
        history.starts.push(Change { began, returned: clock.now(), lsn: truncation.start_lsn.get(), next: 0 });
        self.counts.count(&format!("truncations on a full disk, boundary {:?}", truncation.boundary));
        Ok(())
    }
}

fn is_no_room(error: &wal::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

/// Fills the file system with one file until only about so many bytes are left.
fn leave(dir: &Path, ballast: &Path, bytes: u64) -> io::Result<()> {
    let room = dir.join("room");
    rustix::fs::fallocate(File::create(&room)?, FallocateFlags::empty(), 0, bytes)?;
    let file = File::create(ballast)?;
    let mut len = 0;
    let mut step = 16 << 20;
    while step >= 64 << 10 {
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), len, step) {
            Ok(()) => len += step,
            Err(rustix::io::Errno::NOSPC) => step /= 2,
            Err(error) => return Err(error.into()),
        }
    }
    std::fs::remove_file(room)?;
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}
