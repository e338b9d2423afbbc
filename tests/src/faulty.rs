//! Calls that fail: every errno that a call can give, one or several faults in one run, and what is true afterwards.

use wal::fs::sim::{CrashPlan, Effect, Event, Fault, Operation, errno};

use crate::explore::crash_inside_recovery_with;
use crate::oracle::{Allowed, Death};
use crate::recovery::{Memory, check, without_panic};
use crate::run::{Op, Run};
use crate::settings::Setup;

/// A process that makes so many calls hangs.
const CALLS_MAX: u64 = 5000;

/// Error numbers of Linux besides those of [`errno`].
mod more {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ENOLCK: i32 = 37;
}

/// A call of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// The number of the process.
    pub process: u64,
    /// The number of its call.
    pub call: u64,
    /// What that does.
    pub operation: Operation,
}

/// A call that does not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub site: CallSite,
    /// What happens to it.
    pub effect: Effect,
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CallSite { process, call, operation } = self.site;
        write!(f, "{:?} in call {call} of process {process} ({operation})", self.effect)
    }
}

/// Everything that a file system can do to a call besides what was asked: each error number that it can give, with and without the work
/// done, a flush of the device that fails, a write-back that fails later, and short transfers. `EINTR` of an open is not among them,
/// because the standard library tries that again.
pub fn effects(operation: Operation, direct_io: bool) -> Vec<Effect> {
    use errno::{EDQUOT, EFBIG, EINTR, EIO, ENOSPC, EROFS};
    use more::{EMFILE, ENFILE, ENOLCK, ENOMEM};
    let (errnos, done): (&[i32], bool) = match operation {
        Operation::OpenDir | Operation::Open => (&[EIO, EMFILE, ENFILE, ENOMEM], false),
        Operation::List => (&[EIO, ENOMEM], false),
        Operation::Len => (&[EIO], false),
        Operation::Read => (&[EIO, EINTR], false),
        Operation::TryLock => (&[EIO, EINTR, ENOLCK, EMFILE, ENOMEM], false),
        Operation::CreateDir => (&[EIO, ENOSPC, EDQUOT, EROFS, ENOMEM], true),
        Operation::Create => (&[EIO, ENOSPC, EDQUOT, EROFS, EMFILE, ENFILE, ENOMEM], true),
        Operation::Rename => (&[EIO, ENOSPC, EDQUOT, EROFS, ENOMEM], true),
        Operation::Remove => (&[EIO, ENOSPC, EROFS, ENOMEM], true),
        Operation::SetLen => (&[EIO, ENOSPC, EDQUOT, EFBIG, EROFS], true),
        Operation::Preallocate => (&[EIO, ENOSPC, EDQUOT, EFBIG, EINTR, EROFS], true),
        Operation::SyncData | Operation::SyncAll | Operation::SyncDir => (&[EIO, ENOSPC, EDQUOT, EINTR, EROFS], true),
        Operation::Write => (&[EIO, ENOSPC, EDQUOT, EFBIG, EINTR, EROFS], true),
        _ => (&[EIO], false),
    };
    let mut effects: Vec<Effect> = errnos.iter().map(|errno| Effect::Error(*errno)).collect();
    if done {
        effects.push(Effect::DoneButError(EIO));
    }
    match operation {
        // A direct write moves whole sectors.
        Operation::Write => effects.extend([
            Effect::Short(if direct_io { 512 } else { 1 }),
            Effect::Short(1025),
            Effect::PartialError { bytes: 600, errno: EIO },
            Effect::PartialError { bytes: 5000, errno: EIO },
            Effect::PartialError { bytes: 600, errno: ENOSPC },
            Effect::FlushError(EIO),
            Effect::WriteBackError(EIO),
        ]),
        Operation::SyncData | Operation::SyncAll | Operation::SyncDir => effects.push(Effect::FlushError(EIO)),
        Operation::Read => effects.extend([Effect::Short(1), Effect::Short(100)]),
        _ => {}
    }
    effects
}

/// The worst that can happen to a call: the device fails, and where space is needed there is none.
pub fn worst_effects(operation: Operation) -> Vec<Effect> {
    let is_worst = |effect: &Effect| matches!(effect, Effect::Error(errno::EIO | errno::ENOSPC));
    effects(operation, false).into_iter().filter(is_worst).collect()
}

/// The error number that the log may tell. An interrupted transfer is tried again and never told.
fn errno_of(planned: &Planned) -> Option<i32> {
    let is_transfer = matches!(planned.site.operation, Operation::Read | Operation::Write);
    match planned.effect {
        Effect::Error(errno::EINTR) if is_transfer => None,
        Effect::Error(errno) | Effect::DoneButError(errno) | Effect::PartialError { errno, .. } => Some(errno),
        Effect::FlushError(errno) | Effect::WriteBackError(errno) => Some(errno),
        _ => None,
    }
}

/// The calls of a process that may fail. The sync of the log's parent is not among them: once it failed, nothing that a program does
/// makes the log's directory durable.
pub fn sites(process: u64, trace: &[Event]) -> impl Iterator<Item = CallSite> {
    let is_in_log = |event: &&Event| event.path != "/" || event.operation != Operation::SyncDir;
    trace.iter().filter(is_in_log).map(move |event| CallSite { process, call: event.call, operation: event.operation })
}

/// All calls of a run with these faults, or what it breaks.
pub fn sites_of(setup: &Setup, ops: &[Op], faults: &[Planned]) -> Result<Vec<CallSite>, String> {
    let mut run = start(setup, faults);
    run.traces = true;
    run.fs.record_trace(true);
    go_through(&mut run, ops)?;
    Ok(run.take_sites())
}

/// Runs the operations with the faults, then lets the log go on, then looks at what deaths leave. Equal images are recovered once.
pub fn run_with_faults(setup: &Setup, ops: &[Op], faults: &[Planned], memory: &Memory) -> Result<(), String> {
    let mut run = start(setup, faults);
    without_panic(|| go_through(&mut run, ops))?;
    if faults.iter().any(|fault| matches!(fault.effect, Effect::WriteBackError(_))) {
        // The next sync hears of what was written back too late.
        without_panic(|| go_through(&mut run, &[Op::Flush]))?;
    }
    without_panic(|| go_on(&mut run))?;
    look_at_deaths(&run, faults, memory)
}

fn start(setup: &Setup, faults: &[Planned]) -> Run {
    let mut run = Run::new(setup);
    let plan = |fault: &Planned| (fault.site.process, Fault::new(fault.effect).at_call(fault.site.call));
    run.faults = faults.iter().map(plan).collect();
    run.planned_errnos = faults.iter().filter_map(errno_of).collect();
    run.calls_max = Some(CALLS_MAX);
    run.plan_faults();
    run
}

/// A poisoned log is asked once more, and then its process dies.
fn go_through(run: &mut Run, ops: &[Op]) -> Result<(), String> {
    for op in ops {
        run.apply(*op)?;
        if run.fs.is_crashed() {
            return Err(format!("{op:?} makes calls without end"));
        }
        if run.is_poisoned() {
            run.apply(Op::Append(10))?;
            run.apply(Op::Die)?;
        }
    }
    Ok(())
}

/// The faults are over, and the log goes on: in the same handle, if it still is open.
fn go_on(run: &mut Run) -> Result<(), String> {
    run.faults.clear();
    run.fs.forget_faults();
    run.planned_errnos.clear();
    for op in [Op::Append(77), Op::Rotate, Op::Flush] {
        run.apply(op).map_err(|why| format!("the faults are over: {why}"))?;
    }
    Ok(())
}

fn look_at_deaths(run: &Run, faults: &[Planned], memory: &Memory) -> Result<(), String> {
    let allowed = |death| Allowed::between(&run.model, &run.model, death);
    let (process, machine) = (allowed(Death::Process), allowed(Death::Machine));
    let recovers = |what: &str, fs: &wal::fs::sim::SimFs, allowed: &Allowed| {
        let verdict = memory.recover(&run.setup, fs).map_err(|why| why.to_string());
        verdict.and_then(|observed| check(allowed, &observed)).map_err(|why| format!("{what}: {why}"))
    };
    recovers("death of the process", &run.fs.kill(), &process)?;
    let evicted = run.fs.kill();
    evicted.drop_caches();
    recovers("death and eviction of the cache", &evicted, &machine)?;
    recovers("crash that keeps nothing", &run.fs.crash(&CrashPlan::keep_nothing()), &machine)?;
    let seed = faults.iter().fold(0, |seed, fault| seed * 1000 + fault.site.call);
    for number in 0..3 {
        recovers("crash", &run.fs.crash(&CrashPlan::random(seed * 3 + number)), &machine)?;
    }
    let is_failed_sync = |fault: &Planned| fault.site.operation.is_sync() && matches!(fault.effect, Effect::Error(_));
    if let [fault] = faults
        && is_failed_sync(fault)
    {
        crash_inside_recovery_with(memory, &run.setup, &run.fs.kill(), &machine, seed)
            .map_err(|why| format!("death of the process after a failed sync: {why}"))?;
    }
    Ok(())
}
