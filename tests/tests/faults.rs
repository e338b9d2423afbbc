//! Every call of a workload fails once with everything that it can give, and every two calls fail together.
//!
//! Rows 7 to 10, 13, 15, 20, 27, 41, 45, 53 and 54 of the fault catalogue.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use wal::fs::sim::{CrashPlan, Event, Fault, SyncFailure, errno};
use wal_tests::faulty::{CallSite, Planned, effects, run_with_faults, sites_of, worst_effects};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::{Memory, check_recovery};
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, is_deep, share};
use wal_tests::workers;

const WORKLOADS: [&[Op]; 3] = [
    &[
        Op::Append(100),
        Op::Batch(7, 300, 16),
        Op::Submit(50),
        Op::AppendDurable(30),
        Op::Rotate,
        Op::Append(500),
        Op::Flush,
        Op::Before(30),
        Op::Append(9),
        Op::Flush,
        Op::Checkpoint(60),
        Op::After(80),
        Op::Append(33),
        Op::Reopen,
        Op::Append(44),
        Op::BeforeWhole(60),
        Op::Rotate,
        Op::Append(1),
        Op::Close,
    ],
    &[
        Op::SubmitBatch(700),
        Op::Submit(3000),
        Op::Wait,
        Op::Rotate,
        Op::Submit(40),
        Op::Poll,
        Op::BeforeWhole(70),
        Op::Rotate,
        Op::Rotate,
        Op::Flush,
        Op::After(50),
        Op::Submit(60),
        Op::Close,
        Op::Append(8),
    ],
    &[
        Op::Append(700),
        Op::Rotate,
        Op::Append(60),
        Op::Die,
        Op::Append(20),
        Op::Flush,
        Op::After(60),
        Op::Die,
        Op::Append(5),
        Op::Before(100),
        Op::Crash(7),
        Op::Append(6),
        Op::Reopen,
    ],
];

/// The workload whose calls fail in pairs: each kind of operation once, and each way for a process to end.
const REFERENCE: [Op; 13] = [
    Op::Append(100),
    Op::Batch(7, 300, 16),
    Op::Rotate,
    Op::Append(50),
    Op::Flush,
    Op::Before(60),
    Op::After(70),
    Op::Checkpoint(30),
    Op::Reopen,
    Op::Append(44),
    Op::Die,
    Op::Append(5),
    Op::Close,
];

/// What is broken, and how much was looked at.
#[derive(Default)]
struct Results {
    cases: AtomicU64,
    broken: Mutex<Vec<String>>,
}

impl Results {
    fn note(&self, result: Result<(), String>, label: impl FnOnce() -> String) {
        self.cases.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = result {
            self.broken.lock().expect("no worker panics with it").push(format!("{}: {why}", label()));
        }
    }

    fn tell(self, what: &str) {
        let (cases, broken) = (self.cases.into_inner(), self.broken.into_inner().expect("no worker panics with it"));
        println!("{what}: {cases} cases");
        let few: Vec<&String> = broken.iter().take(12).collect();
        assert!(broken.is_empty(), "{what}: {} of {cases} break a promise:\n{few:#?}", broken.len());
    }
}

/// Each effect on each call.
fn single_faults(sites: &[CallSite], direct_io: bool) -> Vec<Planned> {
    let all = |site: &CallSite| {
        let site = *site;
        effects(site.operation, direct_io).into_iter().map(move |effect| Planned { site, effect })
    };
    sites.iter().flat_map(all).collect()
}

fn fail_every_call(mode: usize, failure: SyncFailure, variant: u64) {
    let results = Results::default();
    for (index, ops) in WORKLOADS.iter().enumerate() {
        let mut setup = Setup::new(MODES[mode], variant | (4 * (index as u64 & 1)));
        setup.sim.sync_failure = failure;
        let memory = Memory::default();
        let sites = sites_of(&setup, ops, &[]).unwrap_or_else(|why| panic!("{ops:?}: {why}"));
        let faults = share(single_faults(&sites, setup.config.direct_io));
        let label = |fault: &Planned| format!("workload {index}, {fault}");
        workers::for_each(&faults, label, |fault| {
            results.note(run_with_faults(&setup, ops, &[*fault], &memory), || label(fault));
        });
    }
    results.tell(&format!("single faults, {:?}, {failure:?}", MODES[mode]));
}

/// Each call of the reference workload fails, and then, in a run that has that fault, each call that comes later.
fn fail_every_two_calls(mode: usize, failure: SyncFailure, variant: u64) {
    let results = Results::default();
    let mut setup = Setup::new(MODES[mode], variant);
    setup.sim.sync_failure = failure;
    let effects_of = |site: &CallSite| {
        if is_deep() { effects(site.operation, setup.config.direct_io) } else { worst_effects(site.operation) }
    };
    let sites = sites_of(&setup, &REFERENCE, &[]).unwrap_or_else(|why| panic!("{why}"));
    let firsts: Vec<Planned> = sites
        .iter()
        .flat_map(|site| effects_of(site).into_iter().map(|effect| Planned { site: *site, effect }))
        .collect();
    let firsts = share(firsts);
    let memory = Memory::default();
    workers::for_each(&firsts, Planned::to_string, |first| {
        let later = match sites_of(&setup, &REFERENCE, &[*first]) {
            Ok(sites) => sites,
            Err(why) => return results.note(Err(why), || first.to_string()),
        };
        let place = |site: &CallSite| (site.process, site.call);
        for site in later.iter().filter(|site| place(site) > place(&first.site)) {
            for effect in effects_of(site) {
                let second = Planned { site: *site, effect };
                let result = run_with_faults(&setup, &REFERENCE, &[*first, second], &memory);
                results.note(result, || format!("{first}, and then {second}"));
            }
        }
    });
    let images = memory.images();
    results.tell(&format!(
        "pairs of faults, {:?}, {failure:?}, {} calls, {images} distinct images",
        MODES[mode],
        sites.len()
    ));
}

#[test]
fn a_failed_call_in_sync_mode_is_told_to_everybody_and_breaks_no_promise() {
    fail_every_call(0, SyncFailure::PagesDropped, 0);
    fail_every_call(0, SyncFailure::PagesDropped, 8);
}

#[test]
fn a_failed_call_in_batch_mode_is_told_to_everybody_and_breaks_no_promise() {
    fail_every_call(1, SyncFailure::PagesDropped, 0);
}

#[test]
fn a_failed_call_in_none_mode_is_told_to_everybody_and_breaks_no_promise() {
    fail_every_call(2, SyncFailure::PagesDropped, 0);
}

#[test]
fn a_failed_flush_of_the_device_breaks_no_promise() {
    fail_every_call(0, SyncFailure::Ext4Like, 8);
    fail_every_call(2, SyncFailure::Ext4Like, 0);
}

#[test]
fn two_failed_calls_in_sync_mode_break_no_promise() {
    fail_every_two_calls(0, SyncFailure::PagesDropped, 0);
}

#[test]
fn two_failed_calls_in_batch_mode_break_no_promise() {
    fail_every_two_calls(1, SyncFailure::PagesDropped, 4);
}

#[test]
fn two_failed_calls_in_none_mode_break_no_promise() {
    fail_every_two_calls(2, SyncFailure::Ext4Like, 0);
}

/// A file system that shuts down or becomes read-only when a sync fails: everything fails until the machine is booted again.
fn fail_every_sync_for_good(failure: SyncFailure) {
    let mut cases = 0;
    for (index, mode) in MODES.into_iter().enumerate() {
        let mut setup = Setup::new(mode, 8 * (index as u64 & 1));
        setup.sim.sync_failure = failure;
        for (which, ops) in WORKLOADS.iter().take(2).enumerate() {
            for CallSite { call, operation, .. } in sites_of(&setup, ops, &[]).expect("the workload is right") {
                if !operation.is_sync() {
                    continue;
                }
                cases += 1;
                let mut run = Run::new(&setup);
                run.planned_errnos = vec![errno::EIO, errno::EROFS];
                run.fs.plan(Fault::error(errno::EIO).at_call(call));
                let label = format!("{mode:?}, workload {which}, call {call} ({operation})");
                for op in *ops {
                    run.apply(*op).unwrap_or_else(|why| panic!("{label}: {why}"));
                }
                for seed in 0..3 {
                    let allowed = Allowed::between(&run.model, &run.model, Death::Machine);
                    check_recovery(&run.fs.crash(&CrashPlan::random(seed)), &setup, &allowed, call)
                        .unwrap_or_else(|why| panic!("{label}, crash {seed}: {why}"));
                }
            }
        }
    }
    println!("{failure:?}: {cases} faults");
}

#[test]
fn a_file_system_that_shuts_down_breaks_no_promise() {
    fail_every_sync_for_good(SyncFailure::XfsLike);
}

#[test]
fn a_file_system_that_becomes_read_only_breaks_no_promise() {
    fail_every_sync_for_good(SyncFailure::BtrfsLike);
}

/// The kinds of calls that the log makes; what it does only on a full disk is not among them.
const KINDS: &str = "\
create_dir directory, open_dir directory, open_dir parent, sync_dir parent, list directory, sync_dir directory, try_lock lock
open control, read control
remove control temp, create control temp, write control temp, sync_all control temp, rename control temp
open reserve, remove reserve, create reserve, write reserve, sync_all reserve
open prepared segment, remove prepared segment, create prepared segment, write prepared segment, sync_all prepared segment
rename prepared segment, sync_data prepared segment, set_len prepared segment
open segment, len segment, read segment, write segment, sync_data segment, sync_all segment, set_len segment
rename segment, remove segment
remove segment temp, create segment temp, write segment temp, read segment temp, sync_all segment temp, rename segment temp
rename recycled segment, open recycled segment, write recycled segment, sync_data recycled segment";

/// What a call is made on: the kind of file, by `specs/format.md`, under the name by which it was opened.
fn kind_of(event: &Event) -> String {
    let name = event.path.rsplit('/').next().unwrap_or_default();
    let kind = match name.split_once('.') {
        _ if event.path == "/" => "parent",
        _ if event.path == "/log" => "directory",
        Some((_, "wal")) => "segment",
        Some((_, "wal.tmp")) => "segment temp",
        Some((_, "prepare")) => "prepared segment",
        Some((_, "recycle")) => "recycled segment",
        Some((_, "tmp")) => "control temp",
        _ => name,
    };
    format!("{} {kind}", event.operation)
}

/// The kinds of calls that these operations make.
fn kinds_of(setup: &Setup, ops: &[Op]) -> BTreeSet<String> {
    let mut run = Run::new(setup);
    run.fs.record_trace(true);
    let mut kinds = BTreeSet::new();
    for op in ops {
        let fs = run.fs.clone();
        run.apply(*op).unwrap_or_else(|why| panic!("{op:?}: {why}"));
        kinds.extend(fs.take_trace().iter().map(kind_of));
        run.fs.record_trace(true);
    }
    kinds.extend(run.fs.take_trace().iter().map(kind_of));
    kinds
}

#[test]
fn the_workloads_whose_calls_fail_make_every_kind_of_call() {
    let mut kinds = BTreeSet::new();
    for mode in MODES {
        for variant in [0, 4, 8, 12] {
            let setup = Setup::new(mode, variant);
            kinds.extend(WORKLOADS.iter().flat_map(|ops| kinds_of(&setup, ops)));
        }
    }
    println!("{} kinds of calls", kinds.len());
    let missing: Vec<&str> =
        KINDS.lines().flat_map(|line| line.split(", ")).filter(|kind| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "no workload makes these calls any more: {missing:?}");
}
