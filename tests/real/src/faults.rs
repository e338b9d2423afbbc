//! A device that fails: `EIO` for a write or a flush, in the middle of a workload.
//!
//! ```text
//! work -> EIO -> the handle is poisoned -> the device is mended -> open again, in the same page cache -> unmount, mount, open
//!                                                              -> power cuts at many moments of all that
//! ```

use wal::{ErrorKind, Wal};
use wal_tests::rng::Rng;

use crate::check;
use crate::cuts::{Campaign, FIRST_LIFE, Workload};
use crate::device::{Fault, Target};
use crate::history::{Append, Entry, History};
use crate::payload::payload;
use crate::workload::{self, Mode, Numbers, Plan};

/// Numbers of payloads that are appended after the failure.
const LATER_NUMBERS: u64 = 1 << 42;

/// The number of the payload that is appended to see whether a log is poisoned.
const PROBE: u64 = 1 << 39;

/// The fault for a seed.
fn fault(rng: &mut Rng) -> Fault {
    let target = rng.pick(&[Target::LogWrites, Target::Writes, Target::Flushes]);
    let passed = match target {
        Target::Writes => rng.below(160),
        Target::LogWrites => rng.below(60),
        Target::Flushes => rng.below(90),
    };
    Fault { target, passed, failed: rng.pick(&[1, 1, 2, u64::MAX]), is_half_done: rng.percent(30) }
}

impl Campaign<'_> {
    /// One failing device, and power cuts in what happened on it. Returns how many of them were not survived.
    ///
    /// # Errors
    ///
    /// How the contract was broken, or what the operating system says.
    pub fn fail(&mut self, mode: Mode, seed: u64, cuts: u64) -> Result<u64, String> {
        let plan = Plan { mode, seed, threads: 3, rounds: 2, appends: 30, is_plain: true };
        let fault = fault(&mut Rng::new(seed ^ 0xFA11));
        let kind = self.rig.kind();
        self.watchdog.beat(|| format!("{kind:?}, {plan:?}, {fault:?}"));
        let workload = self.work_and_fail(plan, fault).map_err(|why| format!("{plan:?}, {fault:?}: {why}"))?;
        self.may_refuse = true;
        let failures = self.cut(&workload, cuts, false);
        self.may_refuse = false;
        Ok(failures)
    }

    fn work_and_fail(&mut self, plan: Plan, fault: Fault) -> Result<Workload, String> {
        let text = |error: std::io::Error| error.to_string();
        let clock = self.rig.clock();
        let dir = self.rig.log_dir();
        self.rig.make().map_err(text)?;
        self.rig.mount().map_err(text)?;
        let mut history = History { bytes_at_risk: plan.mode.bytes_at_risk(), ..History::default() };
        let mut log = Wal::open(&dir, plan.config()).map_err(|error| error.to_string())?;
        self.rig.sync().map_err(text)?;
        self.rig.record(FIRST_LIFE).map_err(text)?;
        self.rig.fail(fault).map_err(text)?;
        let failure = workload::work(&mut log, &plan, &clock, &Numbers::from(1), &mut history);
        let failed_requests = self.rig.mend().map_err(text)?;
        // In batch and none mode the bytes bound says nothing once a sync has failed.
        history.bytes_at_risk = None;
        self.counts.count("devices that fail");
        if failed_requests == 0 {
            self.counts.count("faults that were not reached");
        }
        match failure {
            Some(error) => {
                self.counts.count(&format!("workloads that failed: {:?}", error.kind()));
                if error.io_error().is_none() {
                    return Err(format!("the first cause is not told: {error}"));
                }
            }
            None if failed_requests > 0 => {
                self.counts.count("faults that the file system kept to itself, or that came at the end")
            }
            None => {}
        }
        let is_poisoned = self.stays_poisoned(&log, &mut history)?;
        history.sort();
        drop(log);
        self.reopen(plan, &mut history, "reopened in the same page cache")?;
        let unmounted = self.rig.unmount();
        let recorded = self.rig.stop().map_err(text)?;
        unmounted.map_err(text)?;
        self.remount(plan, &history)?;
        if is_poisoned {
            self.counts.count("handles that were poisoned");
        }
        self.counts.recorded(&recorded, &history);
        Ok(Workload { plan, history, recorded })
    }

    /// Nothing was acknowledged as durable that the log does not count as durable, and a poisoned log says so again and again.
    fn stays_poisoned(&self, log: &Wal, history: &mut History) -> Result<bool, String> {
        let durable = log.durable_lsn();
        let claimed = history.durable_at(u64::MAX);
        if claimed > durable.get() {
            return Err(format!("up to LSN {claimed} was acknowledged, and the log says {durable}"));
        }
        let is_poisoned =
            |result: wal::Result<wal::Lsn>| result.is_err_and(|error| error.kind() == ErrorKind::Poisoned);
        let probe = payload(PROBE, 40);
        match log.append(&probe) {
            Err(error) if error.kind() == ErrorKind::Poisoned => {}
            // A segment could not be prepared, or the file system refuses: that is no poison.
            Err(_) => return Ok(false),
            Ok(lsn) => {
                let now = self.rig.clock().now();
                let entries = vec![Entry { lsn: lsn.get(), number: PROBE, len: probe.len() }];
                history.appends.push(Append { entries, placed: now, returned: now });
                return Ok(false);
            }
        }
        for _ in 0..3 {
            if !is_poisoned(log.append(&probe)) {
                return Err("a poisoned log took a record".to_owned());
            }
            if !is_poisoned(log.flush()) {
                return Err("a poisoned log was flushed".to_owned());
            }
        }
        Ok(true)
    }

    /// Opens the log again without any power cut: what is found is durable from then on.
    fn reopen(&mut self, plan: Plan, history: &mut History, what: &str) -> Result<(), String> {
        let clock = self.rig.clock();
        match check::open(&self.rig.log_dir(), plan.config(), &clock) {
            Ok(opened) => {
                history.check(&opened.found, clock.now()).map_err(|why| format!("{what}: {why}"))?;
                history.returned_by_open(&opened.found, opened.moment);
                self.counts.count(&format!("{what}: {}", crate::cuts::word(opened.state)));
                drop(opened.log);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Io => {
                self.counts.count(&format!("{what}: the file system refuses"));
                Ok(())
            }
            Err(error) => Err(format!("{what}: {error}")),
        }
    }

    /// The device works again, and the file system is mounted anew.
    fn remount(&mut self, plan: Plan, history: &History) -> Result<(), String> {
        if let Err(error) = self.rig.mount() {
            self.counts.refused(&error.to_string());
            return Ok(());
        }
        let clock = self.rig.clock();
        let result = check::open(&self.rig.log_dir(), plan.config(), &clock)
            .map_err(|error| format!("mounted anew: {error}"))
            .and_then(|opened| {
                history.check(&opened.found, u64::MAX - 1).map_err(|why| format!("mounted anew: {why}"))?;
                check::go_on(opened, &clock, LATER_NUMBERS, false).map(drop)
            });
        self.counts.count("mounted anew and gone on");
        self.rig.unmount().map_err(|error| error.to_string())?;
        result
    }
}
