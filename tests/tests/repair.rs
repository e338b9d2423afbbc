//! Repair keeps what is provably good, loses nothing else, and may be crashed or fail at every call.
//!
//! Row 61 of the fault catalogue, and what rows 29, 55 and 56 leave to an operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use wal::fs::FileSystem;
use wal::fs::sim::{CrashPlan, Fault, SimFs, errno};
use wal::inspect::{Depth, Outcome, survey};
use wal::repair::{FindingKind, Plan, Repaired, StepKind, apply_with_clock, plan};
use wal::{Background, Config, Error, ErrorKind, Lsn, ManualClock, Wal};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

const DIR: &str = "/log";

/// A log that was written, and what was written to it.
struct Written {
    fs: SimFs,
    /// Every record by its LSN: payload, and the batch it belongs to.
    records: BTreeMap<Lsn, (Vec<u8>, usize)>,
    next: Lsn,
}

fn config() -> Config {
    Config { segment_bytes_max: 8 << 10, background: Background::Inline, reserve_bytes: 8 << 10, ..Config::default() }
}

fn open(fs: &SimFs) -> Result<Wal, Error> {
    let clock = Arc::new(ManualClock::default());
    // A quick open, which sees no damage that it does not have to.
    let config = Config { create: false, verify_bytes_on_open: 0, ..config() };
    Wal::opener(config).file_system(Arc::new(fs.clone())).clock(clock).open(DIR)
}

/// Six segments of records and batches; closed, or left by a process that died.
fn written(is_closed: bool) -> Written {
    written_as([7; 16], is_closed)
}

fn written_as(log_id: [u8; 16], is_closed: bool) -> Written {
    let fs = SimFs::new(3);
    let clock = Arc::new(ManualClock::default());
    let log = Wal::opener(config())
        .file_system(Arc::new(fs.clone()))
        .log_id(log_id)
        .clock(clock)
        .open(DIR)
        .expect("an empty directory opens");
    let (mut rng, mut records) = (Rng::new(11), BTreeMap::new());
    let mut batch = 0;
    while log.next_lsn() < Lsn::new(26_000) {
        batch += 1;
        let payload =
            |rng: &mut Rng| -> Vec<u8> { (0..100 + rng.number() % 500).map(|at| (at as u8) ^ (batch as u8)).collect() };
        if batch % 3 == 0 {
            let payloads: Vec<Vec<u8>> = (0..3).map(|_| payload(&mut rng)).collect();
            let lsns = log.append_batch(&payloads).expect("there is room");
            let mut at = lsns.first;
            for payload in payloads {
                let bytes = (24 + payload.len() as u64).next_multiple_of(8);
                records.insert(at, (payload, batch));
                at = Lsn::new(at.get() + bytes);
            }
        } else {
            let payload = payload(&mut rng);
            let lsn = log.append(&payload).expect("there is room");
            records.insert(lsn, (payload, batch));
        }
    }
    let next = log.next_lsn();
    let fs = if is_closed {
        log.close().expect("it closes");
        fs
    } else {
        fs.crash(&CrashPlan::keep_nothing())
    };
    Written { fs, records, next }
}

fn segment(number: u64) -> String {
    format!("{DIR}/{number:016x}.wal")
}

impl Written {
    /// Segment and file offset of the record at `lsn`.
    fn place(&self, lsn: Lsn) -> (String, u64) {
        let found = survey(&self.fs, DIR, Depth::Tail, |_| {}).expect("it can be surveyed");
        let home = found.segments.iter().rfind(|segment| segment.base_lsn.is_some_and(|base| base <= lsn));
        let home = home.expect("it lies in a segment");
        (segment(home.number), 4096 + lsn.distance_from(home.base_lsn.expect("just seen")))
    }

    /// Record number `index` that is no part of a batch, in the middle of a segment: neither its first nor its last.
    fn lone(&self, index: usize) -> Lsn {
        let sizes = |batch: usize| self.records.values().filter(|(_, other)| *other == batch).count();
        let lsns: Vec<Lsn> = self.records.keys().copied().collect();
        let is_inside =
            |at: usize| at > 0 && at + 1 < lsns.len() && self.place(lsns[at - 1]).0 == self.place(lsns[at + 1]).0;
        let lone = lsns.iter().enumerate().filter(|(at, lsn)| sizes(self.records[lsn].1) == 1 && is_inside(*at));
        *lone.map(|(_, lsn)| lsn).nth(index).expect("there are so many")
    }

    fn flip(&self, lsn: Lsn, offset: u64) {
        let (file, at) = self.place(lsn);
        self.fs.flip_bit(file, at + offset, 3).expect("it is in the file");
    }

    fn last_of_segment(&self, number: u64) -> Lsn {
        *self.records.keys().rfind(|lsn| self.place(**lsn).0 == segment(number)).expect("it has records")
    }
}

/// What can be wrong, and how many records may be lost at most.
struct Case {
    name: &'static str,
    is_closed: bool,
    damage: fn(&Written),
    lost_max: usize,
    finds: FindingKind,
}

fn case(name: &'static str, is_closed: bool, damage: fn(&Written), lost_max: usize, finds: FindingKind) -> Case {
    Case { name, is_closed, damage, lost_max, finds }
}

fn cases() -> Vec<Case> {
    [damaged_records(), damaged_segments(), damaged_names()].into_iter().flatten().collect()
}

fn damaged_records() -> Vec<Case> {
    use FindingKind::*;
    vec![
        case("a payload", true, |log| log.flip(log.lone(4), 30), 1, DamagedRecords),
        case("a payload in a log that was not closed", false, |log| log.flip(log.lone(4), 30), 1, DamagedRecords),
        case("the header of a record", true, |log| log.flip(log.lone(4), 9), 4, DamagedRecords),
        case(
            "two places in two segments",
            true,
            |log| [2, 9].into_iter().for_each(|at| log.flip(log.lone(at), 9)),
            8,
            DamagedRecords,
        ),
        case("the last record of a segment", true, |log| log.flip(log.last_of_segment(2), 9), 3, DamagedRecords),
        case(
            "the last record of all",
            true,
            |log| log.flip(*log.records.keys().next_back().expect("some"), 9),
            3,
            DamagedRecords,
        ),
        case(
            "zeros to the end of a segment",
            false,
            |log| {
                let (file, at) = log.place(log.lone(7));
                let mut bytes = log.fs.read_file(&file).expect("it is there");
                bytes[at as usize..].fill(0);
                log.fs.write_file(&file, &bytes).expect("it is there");
            },
            12,
            DamagedRecords,
        ),
        case(
            "a segment with no good byte behind its header",
            true,
            |log| {
                let mut bytes = log.fs.read_file(segment(3)).expect("it is there");
                bytes[4096..].fill(0x5A);
                log.fs.write_file(segment(3), &bytes).expect("it is there");
            },
            16,
            DamagedRecords,
        ),
    ]
}

fn damaged_segments() -> Vec<Case> {
    use FindingKind::*;
    vec![
        case(
            "the header of a middle segment",
            true,
            |log| log.fs.flip_bit(segment(3), 40, 1).expect("it is there"),
            0,
            DamagedHeader,
        ),
        case(
            "the header of a middle segment of a log that was not closed",
            false,
            |log| log.fs.flip_bit(segment(3), 40, 1).expect("it is there"),
            0,
            DamagedHeader,
        ),
        case(
            "the header of the first segment",
            true,
            |log| log.fs.flip_bit(segment(1), 40, 1).expect("it is there"),
            0,
            DamagedHeader,
        ),
        case(
            "the header of the last segment",
            true,
            |log| log.fs.flip_bit(segment(6), 40, 1).expect("it is there"),
            0,
            DamagedHeader,
        ),
        case(
            "a missing middle segment",
            true,
            |log| log.fs.remove_file(segment(3)).expect("it is there"),
            16,
            MissingSegment,
        ),
        case(
            "two missing middle segments",
            false,
            |log| [3, 4].into_iter().for_each(|at| log.fs.remove_file(segment(at)).expect("it is there")),
            32,
            MissingSegment,
        ),
        case(
            "the first segment missing",
            true,
            |log| log.fs.remove_file(segment(1)).expect("it is there"),
            16,
            LostStart,
        ),
        case("the last segment missing", true, |log| log.fs.remove_file(segment(6)).expect("it is there"), 16, LostEnd),
        case(
            "all segments missing",
            true,
            |log| (1..=6).for_each(|at| log.fs.remove_file(segment(at)).expect("it is there")),
            1000,
            LostEnd,
        ),
    ]
}

fn damaged_names() -> Vec<Case> {
    use FindingKind::*;
    vec![
        case(
            "the control file missing",
            true,
            |log| log.fs.remove_file(format!("{DIR}/control")).expect("it is there"),
            0,
            LostControl,
        ),
        case(
            "the control file damaged",
            true,
            |log| log.fs.flip_bit(format!("{DIR}/control"), 50, 1).expect("it is there"),
            0,
            LostControl,
        ),
        case(
            "bytes behind a clean end",
            true,
            |log| {
                let mut bytes = log.fs.read_file(segment(6)).expect("it is there");
                bytes.extend_from_slice(&[0x77; 64]);
                log.fs.write_file(segment(6), &bytes).expect("it is there");
            },
            0,
            WrongLength,
        ),
        case(
            "two segments with each other's names",
            true,
            |log| {
                let (two, three) = (
                    log.fs.read_file(segment(2)).expect("it is there"),
                    log.fs.read_file(segment(3)).expect("it is there"),
                );
                log.fs.write_file(segment(2), &three).expect("it is there");
                log.fs.write_file(segment(3), &two).expect("it is there");
            },
            0,
            Misplaced,
        ),
        case(
            "a segment of another log",
            true,
            |log| {
                let other = written_as([8; 16], true);
                let bytes = other.fs.read_file(segment(3)).expect("it is there");
                log.fs.write_file(segment(3), &bytes).expect("it is there");
            },
            16,
            MissingSegment,
        ),
        case(
            "a replacement whose segment is missing",
            true,
            |log| {
                let bytes = log.fs.read_file(segment(3)).expect("it is there");
                log.fs.remove_file(segment(3)).expect("it is there");
                log.fs.write_file(format!("{}.tmp", segment(3)), &bytes).expect("it is there");
            },
            16,
            StrandedTemp,
        ),
        case(
            "a torn tail",
            false,
            |log| {
                let (file, at) = log.place(*log.records.keys().next_back().expect("some"));
                log.fs.flip_bit(file, at + 9, 1).expect("it is there");
            },
            3,
            TornTail,
        ),
    ]
}

fn repair(fs: &SimFs) -> Result<(Plan, Repaired), Error> {
    let plan = plan(fs, DIR, |_| {})?;
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    apply_with_clock(fs, DIR, &plan, Arc::new(ManualClock::default()), |_| {}).map(|done| (plan, done))
}

fn contents(log: &Wal) -> BTreeMap<Lsn, Vec<u8>> {
    log.reader(Lsn::ZERO)
        .expect("a reader")
        .map(|record| record.map(|record| (record.lsn, record.payload)))
        .collect::<Result<_, _>>()
        .expect("every record can be read")
}

/// What must hold of any log that opens: nothing that was not written, batches whole, no LSN twice.
fn check(written: &Written, fs: &SimFs, place: &str) -> BTreeSet<Lsn> {
    let log = open(fs).unwrap_or_else(|error| panic!("{place}: {error}"));
    let found = contents(&log);
    let mut batches: BTreeMap<usize, usize> = BTreeMap::new();
    for (lsn, payload) in &found {
        let (original, batch) =
            written.records.get(lsn).unwrap_or_else(|| panic!("{place}: nothing was written at {lsn}"));
        assert_eq!(payload, original, "{place}: the record at {lsn}");
        *batches.entry(*batch).or_default() += 1;
    }
    for (batch, count) in batches {
        let whole = written.records.values().filter(|(_, other)| *other == batch).count();
        assert_eq!(count, whole, "{place}: batch {batch} is torn");
    }
    let lsn = log.append(b"after").unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(lsn >= written.next, "{place}: LSN {lsn} was given before, the log had come to {}", written.next);
    log.close().unwrap_or_else(|error| panic!("{place}: {error}"));
    found.into_keys().collect()
}

fn check_sound(fs: &SimFs, place: &str) {
    let found = survey(fs, DIR, Depth::Full, |_| {}).expect("it can be surveyed");
    assert!(matches!(found.outcome, Outcome::Clean), "{place}: {:?}", found.outcome);
    let again = plan(fs, DIR, |_| {}).expect("a plan");
    assert!(again.is_empty(), "{place}: a second repair would do {again}");
}

#[test]
fn what_is_good_on_both_sides_of_damage_is_kept_and_the_plan_says_what_is_lost() {
    for case in cases() {
        let log = written(case.is_closed);
        (case.damage)(&log);
        let before: BTreeMap<String, Vec<u8>> = log
            .fs
            .names(DIR)
            .expect("names")
            .into_iter()
            .filter(|name| !name.ends_with('/'))
            .map(|name| (name.clone(), log.fs.read_file(format!("{DIR}/{name}")).expect("it is there")))
            .collect();
        let dry = plan(&log.fs, DIR, |_| {}).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let fingerprint = log.fs.fingerprint();
        assert!(dry.findings.iter().any(|finding| finding.kind == case.finds), "{}: {dry}", case.name);
        assert_eq!(log.fs.fingerprint(), fingerprint, "{}: planning changes nothing", case.name);
        let (plan, done) = repair(&log.fs).unwrap_or_else(|error| panic!("{}: {error}\n{dry}", case.name));
        check_sound(&log.fs, case.name);
        for step in plan.steps.iter().filter(|step| step.kind == StepKind::Quarantine) {
            let kept = done.quarantine.as_ref().expect("something is kept");
            let copy = log.fs.read_file(format!("{DIR}/{kept}/{}", step.file_name)).expect("it is in the quarantine");
            assert!(before[&step.file_name].starts_with(&copy), "{}: {}", case.name, step.file_name);
        }
        let found = check(&log, &log.fs, case.name);
        assert_eq!(plan.records_kept, found.len() as u64, "{}: {plan}", case.name);
        let lost = log.records.len() - found.len();
        assert!(lost <= case.lost_max, "{}: {lost} records are lost\n{plan}", case.name);
        assert!(
            case.lost_max == 0 || lost > 0 || !plan.losses.is_empty() || case.finds == FindingKind::StrandedTemp,
            "{}",
            case.name
        );
        for lsn in log.records.keys() {
            let is_said_lost = plan.losses.iter().any(|loss| loss.from <= *lsn && loss.to.is_none_or(|to| *lsn < to));
            assert_eq!(is_said_lost, !found.contains(lsn), "{}: the record at {lsn}\n{plan}", case.name);
        }
    }
}

/// The state before a repair, and what a repair that is not disturbed leaves.
fn damaged(case: &Case) -> (Written, BTreeSet<Lsn>) {
    let log = written(case.is_closed);
    (case.damage)(&log);
    let undisturbed = log.fs.kill();
    repair(&undisturbed).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let expected = check(&log, &undisturbed, case.name);
    (log, expected)
}

/// A log that a repair left in the middle: it does not open, or it holds what was there; another repair finishes.
fn finish(log: &Written, state: &SimFs, expected: &BTreeSet<Lsn>, place: &str) {
    let tried = state.kill();
    if open(&tried).map(|opened| opened.close()).is_ok() {
        let found = check(log, &tried, place);
        // A quick open does not read the whole log, so it may hold damage still; what it shows without an error is right.
        assert!(expected.is_subset(&found), "{place}: {:?} are gone", expected.difference(&found));
    }
    repair(state).unwrap_or_else(|error| panic!("{place}: a second repair fails: {error}"));
    check_sound(state, place);
    assert_eq!(check(log, state, place), *expected, "{place}");
}

fn opens_and_reads_whole(state: &SimFs) -> bool {
    let Ok(log) = open(&state.kill()) else { return false };
    log.reader(Lsn::ZERO).is_ok_and(|reader| reader.into_iter().all(|record| record.is_ok()))
}

#[test]
fn a_repair_that_is_crashed_at_any_call_is_finished_by_another_one() {
    let watchdog = Watchdog::start();
    let mut states = 0;
    for case in cases() {
        let (log, expected) = damaged(&case);
        let run = log.fs.kill();
        run.keep_crash_points(true);
        repair(&run).expect("it worked before");
        for (call, point) in run.take_crash_points() {
            let plans = [
                CrashPlan::keep_nothing(),
                CrashPlan::keep_everything(),
                CrashPlan::random(call),
                CrashPlan::random(call ^ 0x55AA),
            ];
            let crashed = plans.iter().map(|plan| point.crash(plan)).chain([point.kill()]);
            for (outcome, state) in crashed.enumerate() {
                let place = format!("{}: crash before call {call}, outcome {outcome}", case.name);
                watchdog.beat(|| place.clone());
                states += 1;
                finish_if_readable(&log, &state, &expected, &place);
            }
        }
    }
    println!("{states} crashed repairs");
}

fn finish_if_readable(log: &Written, state: &SimFs, expected: &BTreeSet<Lsn>, place: &str) {
    if opens_and_reads_whole(state) {
        finish(log, state, expected, place);
    } else {
        repair(state).unwrap_or_else(|error| panic!("{place}: a second repair fails: {error}"));
        check_sound(state, place);
        assert_eq!(check(log, state, place), *expected, "{place}");
    }
}

#[test]
fn a_repair_of_which_any_call_fails_is_finished_by_another_one() {
    let watchdog = Watchdog::start();
    for case in cases() {
        let (log, expected) = damaged(&case);
        let run = log.fs.kill();
        let first = run.calls();
        repair(&run).expect("it worked before");
        for call in first..run.calls() {
            for number in [errno::EIO, errno::ENOSPC] {
                let place = format!("{}: error {number} in call {call}", case.name);
                watchdog.beat(|| place.clone());
                let failing = log.fs.kill();
                failing.plan(Fault::error(number).at_call(call));
                // Some failures are passed over, such as that of making the reserve.
                let failed = repair(&failing).is_err();
                let state = if failed { failing.crash(&CrashPlan::random(call)) } else { failing.kill() };
                finish_if_readable(&log, &state, &expected, &place);
            }
        }
    }
}

#[test]
fn a_full_disk_in_the_middle_of_a_repair_leaves_the_log_as_it_was() {
    let is_of_the_log = |name: &String| name.ends_with(".wal") || name == "control";
    for case in cases().into_iter().filter(|case| !matches!(case.finds, FindingKind::LostStart | FindingKind::TornTail))
    {
        let (log, expected) = damaged(&case);
        let needed = plan(&log.fs, DIR, |_| {}).expect("a plan").bytes_needed;
        let used = log.fs.space_used();
        for blocks in 0..=needed / 4096 + 1 {
            let run = log.fs.kill();
            run.configure(|config| config.capacity = Some(used + blocks * 4096));
            let files = |fs: &SimFs| -> BTreeMap<String, Vec<u8>> {
                let names = fs.names(DIR).expect("names").into_iter().filter(is_of_the_log);
                names.map(|name| (name.clone(), fs.read_file(format!("{DIR}/{name}")).expect("it is there"))).collect()
            };
            let before = files(&run);
            let place = format!("{}: {blocks} free blocks", case.name);
            if let Err(error) = repair(&run) {
                assert!(error.is_full(), "{place}: {error}");
                let has_begun =
                    plan(&run, DIR, |_| {}).map_or(true, |plan| plan.findings.len() < plan_of(&log).findings.len());
                assert!(has_begun || files(&run) == before, "{place}: something was changed");
            }
            let state = run.kill();
            state.configure(|config| config.capacity = None);
            finish_if_readable(&log, &state, &expected, &place);
        }
    }
}

/// Changes something at random: a bit, a run of bytes, a length, a name.
///
/// In a log that was not closed, nothing proves that its last segment was there; what becomes of that is not for a repair to know.
fn damage_at_random(log: &Written, is_closed: bool, rng: &mut Rng) {
    let last = if is_closed { 6 } else { 5 };
    let names = log.fs.names(DIR).expect("names");
    let names: Vec<String> =
        names.into_iter().filter(|name| (1..=last).any(|number| segment(number).ends_with(name.as_str()))).collect();
    let pick = |rng: &mut Rng| format!("{DIR}/{}", names[rng.number() as usize % names.len()]);
    let file = pick(rng);
    let Ok(mut bytes) = log.fs.read_file(&file) else { return };
    let at = rng.number() as usize % bytes.len().max(1);
    match rng.number() % 8 {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << (rng.number() % 8),
        2 => bytes[at..].fill(0),
        3 => bytes.truncate(at),
        4 => bytes.iter_mut().skip(at).take(512).for_each(|byte| *byte = 0xEE),
        5 => return log.fs.remove_file(&file).expect("it is there"),
        6 => bytes = log.fs.read_file(pick(rng)).unwrap_or_default(),
        _ => bytes.extend_from_slice(&[0x11; 40]),
    }
    log.fs.write_file(&file, &bytes).expect("there is room");
}

#[test]
fn whatever_is_damaged_a_repair_leaves_a_sound_log_of_what_was_written() {
    let watchdog = Watchdog::start();
    let seeds = if std::env::var_os("WAL_TEST_DEEP").is_some() { 20_000 } else { 600 };
    let base = [written(true), written(false)];
    let mut refused = 0;
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let origin = &base[seed as usize % 2];
        let log = Written { fs: origin.fs.kill(), records: origin.records.clone(), next: origin.next };
        for _ in 0..1 + rng.number() % 4 {
            damage_at_random(&log, seed % 2 == 0, &mut rng);
        }
        let place = format!("seed {seed}");
        watchdog.beat(|| place.clone());
        let dry = match plan(&log.fs, DIR, |_| {}) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(error.is_corruption(), "{place}: {error}");
                refused += 1;
                continue;
            }
        };
        if dry.is_empty() {
            let found = survey(&log.fs, DIR, Depth::Full, |_| {}).expect("it can be surveyed");
            let is_sound = matches!(found.outcome, Outcome::Clean | Outcome::Kept);
            assert!(is_sound, "{place}: nothing is found, but {:?}", found.outcome);
            continue;
        }
        let (plan, _) = repair(&log.fs).unwrap_or_else(|error| panic!("{place}: {error}\n{dry}"));
        check_sound(&log.fs, &place);
        let found = check(&log, &log.fs, &place);
        assert_eq!(plan.records_kept, found.len() as u64, "{place}: {plan}");
        for lsn in log.records.keys().filter(|lsn| !found.contains(lsn)) {
            let is_said = plan.losses.iter().any(|loss| loss.from <= *lsn && loss.to.is_none_or(|to| *lsn < to));
            assert!(is_said, "{place}: the loss of the record at {lsn} is not reported\n{plan}");
        }
    }
    println!("{seeds} damaged logs, {refused} of them cannot be repaired");
}

fn plan_of(log: &Written) -> Plan {
    plan(&log.fs, DIR, |_| {}).expect("a plan")
}

#[test]
fn a_log_in_use_is_not_repaired_and_a_changed_log_needs_a_new_plan() {
    let log = written(true);
    log.flip(log.lone(4), 30);
    let stale = plan(&log.fs, DIR, |_| {}).expect("a plan");
    let writer = open(&log.fs).expect("a quick open does not see the damage");
    let apply = |plan: &Plan| {
        let fs: Arc<dyn FileSystem> = Arc::new(log.fs.clone());
        apply_with_clock(fs, DIR, plan, Arc::new(ManualClock::default()), |_| {})
    };
    let files = || log.fs.names(DIR).expect("names");
    let before = files();
    assert_eq!(apply(&stale).expect_err("somebody writes").kind(), ErrorKind::InUse);
    assert_eq!(files(), before);
    writer.append(b"more").expect("there is room");
    writer.close().expect("it closes");
    let before = log.fs.fingerprint();
    assert_eq!(apply(&stale).expect_err("the log went on").kind(), ErrorKind::Refused);
    assert_eq!(log.fs.fingerprint(), before);
}

#[test]
fn a_sound_log_needs_no_repair_and_a_directory_without_a_log_has_none() {
    for is_closed in [true, false] {
        let log = written(is_closed);
        let plan = plan_of(&log);
        assert!(plan.is_empty() && plan.findings.is_empty(), "{plan}");
        assert_eq!(plan.records_kept, log.records.len() as u64);
    }
    let fs = SimFs::new(1);
    assert_eq!(plan(&fs, DIR, |_| {}).expect_err("nothing is there").kind(), ErrorKind::NotFound);
    fs.create_dir(Path::new(DIR)).expect("it is absent");
    assert_eq!(plan(&fs, DIR, |_| {}).expect_err("nothing is there").kind(), ErrorKind::NotFound);
}
