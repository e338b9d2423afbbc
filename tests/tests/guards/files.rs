//! Files, recovery, truncation.

use std::sync::Arc;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SyncFailure, errno};
use wal::{Lsn, TruncatePolicy};
use wal_tests::explore::{Limits, explore};
use wal_tests::oracle::{Death, frame_bytes};
use wal_tests::recovery::{DIR, check_recovery, observe, open};
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, FIRST, NO_RECYCLING, NONE, SECOND, SYNC, allowed, names, setup, with_a_failed_sync};

#[test]
fn a_leftover_in_the_way_of_a_new_file_is_removed_first() {
    let mut run = Run::through(&setup(SYNC, 0), &[Op::Append(3000)]);
    for name in ["0000000000000002.prepare", "control.tmp", "0000000000000001.wal.tmp"] {
        run.fs.write_file(format!("{DIR}/{name}"), b"left over").expect("a file");
    }
    for op in [Op::Append(3000), Op::Flush, Op::Checkpoint(100), Op::Before(60), Op::After(0), Op::Append(9)] {
        run.apply(op).unwrap_or_else(|why| panic!("{op:?}: {why}"));
    }
}

#[test]
fn a_replacement_that_cannot_get_its_name_on_a_full_disk_leaves_nothing_behind() {
    let run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Append(200)]);
    run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Rename));
    let error = run.log().declare_checkpoint(Lsn::FIRST).expect_err("there is no room for the name");
    assert!(error.is_full() && !error.is_poisoned(), "{error}");
    assert!(!names(&run).contains(&"control.tmp".to_owned()), "{:?}", names(&run));
    run.log().declare_checkpoint(Lsn::FIRST).expect("there is room now");
}

#[test]
fn an_interrupted_or_a_short_read_is_continued() {
    for effect in [Effect::Error(errno::EINTR), Effect::Short(1), Effect::Short(100)] {
        let run = Run::through(&setup(NONE, 0), &[Op::Append(100), Op::Rotate, Op::Append(700)]);
        let fs = run.fs.kill();
        fs.plan(Fault::new(effect).on(Operation::Read).times(3));
        let log = open(&fs, &run.setup, &run.clock).unwrap_or_else(|error| panic!("{effect:?}: {error}"));
        fs.plan(Fault::new(effect).on(Operation::Read).times(3));
        let seen = observe(&log).unwrap_or_else(|error| panic!("{effect:?}: {error}"));
        assert_eq!(seen.records.len(), run.model.records.len(), "{effect:?}");
    }
}

#[test]
fn a_segment_that_is_too_small_is_not_used_again() {
    // A clean close cuts the unused space off, so what it closed is no full segment any more.
    let mut run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Append(4000), Op::Append(50), Op::Reopen]);
    for op in [Op::Append(4000), Op::Append(3000), Op::BeforeWhole(100), Op::Append(3000), Op::Append(3000)] {
        run.apply(op).expect("it works");
    }
    let recycled: Vec<u64> = names(&run)
        .iter()
        .filter(|name| name.ends_with(".wal") || name.ends_with(".recycle"))
        .map(|name| run.fs.read_file(format!("{DIR}/{name}")).expect("a file").len() as u64)
        .collect();
    assert!(recycled.iter().all(|bytes| *bytes == run.setup.config.segment_bytes_max), "{recycled:?}");
}

#[test]
fn a_segment_that_somebody_reads_is_not_used_again() {
    let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush];
    let run = Run::through(&setup(SYNC, 0), &ops);
    let mut reader = run.log().reader(Lsn::ZERO).expect("a reader");
    assert!(reader.next_record().expect("it reads").is_some());
    let end = run.log().durable_lsn();
    run.log().truncate_before_with(end, TruncatePolicy::WholeSegments).expect("a truncation");
    let kept: Vec<String> = names(&run).into_iter().filter(|name| name.ends_with(".recycle")).collect();
    assert_eq!(kept, ["0000000000000002.recycle"], "the first segment is being read");
}

#[test]
fn a_copy_that_came_out_wrong_replaces_nothing() {
    for truncate_end in [false, true] {
        // In the header, in the first frame, in the last one.
        for bit in [100, 4096 * 8 + 100, (4096 + 500) * 8] {
            let ops = [Op::Append(600), Op::Append(700), Op::Append(300), Op::Rotate, Op::Append(20)];
            let run = Run::through(&setup(SYNC, 0), &ops);
            let before = run.fs.read_file(FIRST).expect("a segment");
            let lsn = Lsn::new(run.model.records[1].lsn);
            run.fs.plan(Fault::new(Effect::FlipBit(bit)).name("0000000000000001.wal.tmp").on(Operation::Write));
            let result = if truncate_end { run.log().truncate_after(lsn) } else { run.log().truncate_before(lsn) };
            let error = result.expect_err("the copy does not read as it should");
            assert!(!error.is_poisoned(), "{error}");
            assert!(run.fs.read_file(FIRST).expect("a segment") == before, "the original is kept");
            check_recovery(&run.fs.kill(), &run.setup, &allowed(&run, Death::Machine), 0)
                .expect("the log is as it was");
        }
    }
}

#[test]
fn what_there_is_no_room_to_copy_is_written_again_with_its_header() {
    for (mode, failing) in [(BATCH, 0), (BATCH, 1), (NONE, 0), (NONE, 1)] {
        let mut run = Run::through(&setup(mode, 0), &[Op::AppendDurable(100)]);
        // A sync that fails leaves the segment it was for, header and all, in the page cache alone.
        run.fs.configure(|config| config.sync_failure = SyncFailure::PagesDropped);
        run.planned_errnos = vec![errno::EIO];
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).skip(failing));
        for op in [Op::AppendWritten(4000), Op::AppendWritten(50), Op::Flush] {
            run.apply(op).expect("it works or fails as planned");
        }
        let fs = run.fs.kill();
        for name in ["0000000000000001.wal.tmp", "0000000000000002.wal.tmp"] {
            fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name(name).always());
        }
        let log = open(&fs, &run.setup, &run.clock).expect("it opens on a full disk");
        let shown = observe(&log).expect("it can be read");
        let after =
            open(&fs.crash(&CrashPlan::keep_nothing()), &run.setup, &run.clock).expect("it opens after a crash");
        assert_eq!(
            observe(&after).expect("it can be read").records,
            shown.records,
            "mode {mode}, sync {failing} failed"
        );
    }
}

#[test]
fn a_creation_sweeps_what_an_earlier_one_left() {
    let setup = setup(SYNC, 0);
    let fs = wal::fs::sim::SimFs::with_config(setup.sim.clone());
    wal::fs::FileSystem::create_dir(&fs, std::path::Path::new(DIR)).expect("a directory");
    for path in [FIRST, SECOND] {
        fs.write_file(path, &[0; 8192]).expect("a blank segment");
    }
    let log = open(&fs, &setup, &Arc::default()).expect("nothing of it was ever used");
    assert!(!fs.names(DIR).expect("the log is there").contains(&"0000000000000002.wal".to_owned()));
    assert_eq!(log.next_lsn(), Lsn::FIRST);
}

#[test]
fn a_truncation_and_an_open_leave_a_witness_of_the_end_in_the_control_file() {
    for (variant, last) in [(0, Op::Before(40)), (BUFFERED, Op::Before(40)), (0, Op::Reopen), (BUFFERED, Op::Reopen)] {
        let run =
            Run::through(&setup(SYNC, variant), &[Op::Append(100), Op::Rotate, Op::Append(200), Op::Append(300), last]);
        let record = run.model.records.last().expect("a record");
        let rotten = run.fs.kill();
        let (segment, base) = if rotten.read_file("/log/0000000000000003.wal").is_ok() { (3, 0) } else { (2, 0) };
        let path = format!("{DIR}/{segment:016x}.wal");
        let bytes = rotten.read_file(&path).expect("the active segment");
        let base: u64 = base + u64::from_le_bytes(bytes[48..56].try_into().expect("8 bytes"));
        if record.lsn < base {
            continue;
        }
        rotten.flip_bit(&path, 4096 + record.lsn - base + 24 + 100, 2).expect("it is in the segment");
        let error = open(&rotten, &run.setup, &run.clock).expect_err("the control file says that it was durable");
        assert!(error.is_corruption(), "{last:?}: {error}");
    }
}

#[test]
fn the_record_last_synced_is_missed_after_a_truncation_and_after_an_open() {
    for (last, segment) in [(Op::BeforeWhole(60), 2), (Op::Reopen, 1)] {
        let ops = if segment == 2 {
            vec![Op::Append(4000), Op::Append(200), Op::Append(300), last]
        } else {
            vec![Op::Append(200), Op::Append(300), last]
        };
        let run = Run::through(&setup(SYNC, 0), &ops);
        let record = run.model.records.last().expect("a record");
        let path = format!("{DIR}/{segment:016x}.wal");
        let rotten = run.fs.kill();
        let bytes = rotten.read_file(&path).expect("the active segment");
        let base = u64::from_le_bytes(bytes[48..56].try_into().expect("8 bytes"));
        rotten.flip_bit(&path, 4096 + record.lsn - base + 24 + 100, 2).expect("it is in the segment");
        let error = open(&rotten, &run.setup, &run.clock).expect_err("a witness in the control file covers it");
        assert!(error.is_corruption(), "{last:?}: {error}");
    }
}

/// Three segments, opened anew, so that the control file names the last one.
const REOPENED: [Op; 6] =
    [Op::Append(4000), Op::Append(3000), Op::Append(4000), Op::Append(10), Op::Reopen, Op::Append(20)];

#[test]
fn a_cut_before_the_segment_that_was_opened_survives_a_crash_at_any_call() {
    let limits = Limits { nested_percent: 5, nested_points: 2, depth: 2, ..Limits::sampled(100) };
    for mode in [SYNC, BATCH, NONE] {
        let ops = [&REOPENED[..], &[Op::After(0), Op::Append(5), Op::Flush]].concat();
        explore(&setup(mode, 0), &ops, 3, limits, 1).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn what_a_cut_removes_is_removed_and_the_new_active_segment_is_required_from_then_on() {
    let run = Run::through(&setup(SYNC, NO_RECYCLING), &[&REOPENED[..], &[Op::After(0)]].concat());
    let segments: Vec<String> = names(&run).into_iter().filter(|name| name.ends_with(".wal")).collect();
    assert_eq!(segments, ["0000000000000001.wal", "0000000000000002.wal"]);
    let without = run.fs.kill();
    without.remove_file(SECOND).expect("the active segment");
    let error = open(&without, &run.setup, &run.clock).expect_err("the active segment is gone");
    assert!(error.is_corruption(), "{error}");
}

#[test]
fn every_byte_of_a_log_that_was_cut_and_closed_means_something() {
    for mode in [SYNC, BATCH, NONE] {
        let ops =
            [&REOPENED[..], &[Op::After(0), Op::Append(3000), Op::Append(3000), Op::Append(5), Op::Close]].concat();
        let run = Run::through(&setup(mode, 0), &ops);
        let bytes: u64 = names(&run)
            .iter()
            .filter(|name| name.ends_with(".wal"))
            .map(|name| run.fs.read_file(format!("{DIR}/{name}")).expect("a segment").len() as u64 - 4096)
            .sum();
        let frames: u64 = run.model.records.iter().map(|record| frame_bytes(record.payload.len())).sum();
        assert_eq!(bytes, frames, "mode {mode}: the segments hold more than their records");
    }
}

#[test]
fn a_recovery_whose_directory_sync_failed_does_not_rely_on_the_names_it_gave() {
    for mode in [BATCH, NONE] {
        let run = with_a_failed_sync(mode);
        for failing in 0..12 {
            let fs = run.fs.kill();
            fs.plan(Fault::error(errno::EIO).on(Operation::SyncDir).skip(failing));
            drop(open(&fs, &run.setup, &run.clock));
            check_recovery(&fs.kill(), &run.setup, &allowed(&run, Death::Machine), failing)
                .unwrap_or_else(|why| panic!("mode {mode}, directory sync {failing}: {why}"));
        }
    }
}

#[test]
fn segments_are_synced_oldest_first() {
    let run = Run::through(&setup(BATCH, BUFFERED), &[Op::AppendWritten(2500), Op::AppendWritten(2500)]);
    run.fs.record_trace(true);
    run.log().flush().expect("a flush");
    let synced: Vec<String> = run
        .fs
        .take_trace()
        .into_iter()
        .filter(|event| event.operation == Operation::SyncData)
        .map(|event| event.path)
        .collect();
    // A file is traced under the name that it was born with.
    assert_eq!(synced.len(), 2, "{synced:?}");
    assert!(synced[0] < synced[1], "{synced:?}");
}

#[test]
fn a_new_log_needs_its_own_entry_in_its_parent_also_if_an_earlier_creation_died() {
    let setup = setup(SYNC, 0);
    let run = Run::through(&setup, &[Op::Append(10)]);
    let after = run.fs.crash(&CrashPlan::keep_nothing());
    assert_eq!(
        observe(&open(&after, &setup, &run.clock).expect("it is there")).expect("it can be read").records.len(),
        1
    );
    // The directory was made by somebody who died before it was durable.
    let fs = wal::fs::sim::SimFs::with_config(setup.sim.clone());
    wal::fs::FileSystem::create_dir(&fs, std::path::Path::new(DIR)).expect("a directory");
    let log = open(&fs, &setup, &Arc::default()).expect("a new log");
    log.append(b"durable").expect("an append");
    let after = fs.crash(&CrashPlan::keep_nothing());
    assert_eq!(
        observe(&open(&after, &setup, &run.clock).expect("it is there")).expect("it can be read").records.len(),
        1
    );
}

#[test]
fn the_segment_that_an_unclean_open_began_is_required_from_then_on() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, NO_RECYCLING), &[Op::Append(100), Op::Flush, Op::Die]);
        let without = run.fs.kill();
        without.remove_file(SECOND).expect("the active segment");
        let error = open(&without, &run.setup, &run.clock).expect_err("the active segment is gone");
        assert!(error.is_corruption(), "mode {mode}: {error}");
    }
}

/// CRC32C of RFC 3720, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

/// Changes the header of the frame at `lsn` in the first segment and makes its checksum right, as `specs/format.md` draws it.
pub fn forge(segment: &mut [u8], lsn: u64, change: impl FnOnce(&mut [u8])) {
    let base = u64::from_le_bytes(segment[48..56].try_into().expect("8 bytes"));
    let at = (4096 + lsn - base) as usize;
    change(&mut segment[at..at + 24]);
    let covered = [&segment[16..48], &lsn.to_le_bytes(), &segment[at + 4..at + 24]].concat();
    let checksum = crc32c(&covered);
    segment[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Changes the header of a segment and makes its checksum right, as `specs/format.md` draws it.
pub fn forge_header(segment: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(&mut segment[..4092]);
    let checksum = crc32c(&segment[..4092]);
    segment[4092..4096].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_frame_that_a_newer_version_wrote_is_refused_and_never_cut() {
    for last in [Op::Flush, Op::Close] {
        let run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Append(50), last]);
        let mut bytes = run.fs.read_file(FIRST).expect("a segment");
        forge(&mut bytes, run.model.records[1].lsn, |_| {});
        assert!(bytes == run.fs.read_file(FIRST).expect("a segment"), "the checksum is that of the format");
        forge(&mut bytes, run.model.records[1].lsn, |frame| frame[12..14].copy_from_slice(&0x4002_u16.to_le_bytes()));
        let newer = run.fs.kill();
        newer.write_file(FIRST, &bytes).expect("the segment");
        let error = open(&newer, &run.setup, &run.clock).expect_err("it is not known what the frame means");
        assert_eq!(error.kind(), wal::ErrorKind::UnsupportedVersion, "{last:?}: {error}");
        assert!(newer.read_file(FIRST).expect("the segment") == bytes, "what is refused is not changed");
    }
}

#[test]
fn a_frame_with_an_unknown_flag_or_without_its_marker_is_no_frame() {
    let changes: [fn(&mut [u8]); 3] = [|frame| frame[14] |= 2, |frame| frame[14] |= 0x80, |frame| frame[15] = 0xF6];
    for change in changes {
        let run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Append(50)]);
        let mut bytes = run.fs.read_file(FIRST).expect("a segment");
        forge(&mut bytes, run.model.records[1].lsn, change);
        let forged = run.fs.kill();
        forged.write_file(FIRST, &bytes).expect("the segment");
        let log = open(&forged, &run.setup, &run.clock).expect("it is the last record, so it may be torn");
        assert_eq!(observe(&log).expect("it can be read").records.len(), 1, "the right checksum alone makes no frame");
    }
}
