//! Readers of a live log and of its files.

use std::time::Duration;

use wal::fs::sim::{Effect, Fault, Operation};
use wal::inspect::{Depth, Outcome, StatisticsFile, statistics, survey};
use wal::{ErrorKind, LogReader, Lsn};
use wal_tests::recovery::DIR;
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, FIRST, NO_RECYCLING, NONE, SECOND, SYNC, setup};

const THIRD: &str = "/log/0000000000000003.wal";

fn lsn(run: &Run, index: usize) -> Lsn {
    Lsn::new(run.model.records[index].lsn)
}

fn files(run: &Run) -> LogReader {
    LogReader::open_with(&run.fs, DIR).expect("the log is there")
}

/// Where a record stands in the first segment.
fn offset(run: &Run, index: usize) -> u64 {
    4096 + run.model.records[index].lsn - run.model.records[0].lsn
}

#[test]
fn a_reader_that_has_the_boundary_open_shows_nothing_before_the_new_start() {
    let ops = [Op::Append(600), Op::Append(700), Op::Append(300), Op::Flush];
    let run = Run::through(&setup(SYNC, BUFFERED), &ops);
    let mut reader = run.log().reader(Lsn::ZERO).expect("a reader");
    assert!(reader.next_record().expect("it reads").is_some());
    run.log().truncate_before(lsn(&run, 2)).expect("a truncation");
    assert_eq!(reader.next_record().expect_err("it stands before the start").kind(), ErrorKind::Truncated);
}

#[test]
fn a_reader_of_files_shows_no_part_of_a_batch_that_is_not_there_as_a_whole() {
    let run = Run::through(&setup(NONE, BUFFERED), &[Op::Append(100), Op::Batch(100, 200, 300)]);
    let mut bytes = run.fs.read_file(FIRST).expect("a segment");
    bytes[offset(&run, 3) as usize..].fill(0);
    run.fs.write_file(FIRST, &bytes).expect("a segment");
    let shown: Vec<_> = files(&run).reader(Lsn::ZERO).expect("a reader").map(|it| it.expect("it reads").lsn).collect();
    assert_eq!(shown, [lsn(&run, 0)], "the batch has not arrived as a whole");
}

#[test]
fn a_reader_of_files_passes_by_what_a_cut_made_void() {
    let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush];
    let mut run = Run::through(&setup(SYNC, BUFFERED | NO_RECYCLING), &ops);
    let void = run.fs.read_file(THIRD).expect("a segment");
    for op in [Op::After(0), Op::Append(100)] {
        run.apply(op).expect("it works");
    }
    run.fs.write_file(THIRD, &void).expect("a segment");
    let record = files(&run).read(lsn(&run, 1)).expect("it is in the second segment");
    assert_eq!(record.segment, 2);
    let mut reader = files(&run).reader(Lsn::new(run.model.records[1].end())).expect("a reader");
    assert!(reader.next_record().expect("it stands at the end").is_none());
}

#[test]
fn a_reader_of_files_shows_nothing_behind_a_hole_wherever_it_is_told_to_start() {
    let run = Run::through(&setup(NONE, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Append(300)]);
    let mut bytes = run.fs.read_file(FIRST).expect("a segment");
    bytes[offset(&run, 1) as usize..][..24].fill(0);
    run.fs.write_file(FIRST, &bytes).expect("a segment");
    let shown = files(&run).reader(lsn(&run, 2)).expect("a reader").filter(|record| record.is_ok()).count();
    assert_eq!(shown, 0, "nothing proves that it is a part of the log");
    files(&run).read(lsn(&run, 2)).expect_err("nothing proves that it is a part of the log");
}

#[test]
fn what_looks_like_damage_once_is_looked_at_again() {
    // As a change of structure makes it look that is under way; here a read that comes out wrong.
    let ops = [Op::Append(100), Op::Append(200), Op::Append(300), Op::Flush];
    let run = Run::through(&setup(SYNC, BUFFERED), &ops);
    let wrong = || Fault::new(Effect::FlipBit(1000)).on(Operation::Read).name("0000000000000001.wal");
    for skip in 0..2 {
        run.fs.plan(wrong().skip(skip));
        let shown: Vec<_> =
            run.log().reader(Lsn::ZERO).expect("a reader").map(|it| it.expect("it reads").lsn).collect();
        assert_eq!(shown, [0, 1, 2].map(|index| lsn(&run, index)), "read {skip} is wrong");
        run.fs.forget_faults();
        run.fs.plan(wrong().skip(skip));
        run.log().read(lsn(&run, 1)).unwrap_or_else(|error| panic!("read {skip} is wrong: {error}"));
        run.fs.forget_faults();
    }
    for skip in 0..2 {
        run.fs.plan(wrong().skip(skip));
        let found = survey(&run.fs, DIR, Depth::Full, |_| {}).expect("it can be looked at");
        assert!(matches!(found.outcome, Outcome::Kept), "read {skip} is wrong: {:?}", found.outcome);
        run.fs.forget_faults();
    }
}

#[test]
fn a_reader_of_files_that_has_read_what_was_cut_is_told() {
    for mode in [SYNC, BATCH, NONE] {
        let ops = [Op::Append(600), Op::Append(700), Op::Append(300), Op::Flush];
        let mut run = Run::through(&setup(mode, BUFFERED), &ops);
        let mut reader = files(&run).reader(Lsn::ZERO).expect("a reader");
        for _ in 0..3 {
            assert!(reader.next_record().expect("it reads").is_some());
        }
        for op in [Op::After(0), Op::AppendDurable(50)] {
            run.apply(op).expect("it works");
        }
        match reader.next_record() {
            Ok(Some(record)) => panic!("mode {mode}: it goes on at LSN {} without a word", record.lsn),
            // It has the old file open, which ends here; a reader that is opened now finds the new one.
            Ok(None) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated, "mode {mode}: {error}"),
        }
    }
}

#[test]
fn a_reader_of_files_that_stands_where_the_log_was_truncated_is_told() {
    let ops = [Op::Append(600), Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush];
    let run = Run::through(&setup(SYNC, BUFFERED | NO_RECYCLING), &ops);
    let mut reader = files(&run).reader(Lsn::ZERO).expect("a reader");
    run.log().truncate_before(lsn(&run, 3)).expect("a truncation");
    assert_eq!(reader.next_record().expect_err("its records are gone").kind(), ErrorKind::Truncated);
}

#[test]
fn a_segment_that_took_the_place_of_another_is_not_read() {
    let ops = [Op::Append(600), Op::Append(3000), Op::Append(500), Op::Append(3000), Op::Append(3000), Op::Flush];
    let run = Run::through(&setup(SYNC, BUFFERED), &ops);
    run.fs.copy_file(FIRST, SECOND).expect("a segment");
    let error = run.log().read(lsn(&run, 3)).expect_err("it is another segment");
    assert!(error.is_corruption() && error.to_string().contains("header"), "{error}");
    let last = run.log().reader(Lsn::ZERO).expect("a reader").last().expect("it says something");
    assert!(last.expect_err("it is another segment").is_corruption());
}

#[test]
fn a_segment_of_another_log_keeps_nobody_from_what_is_before_it() {
    let run = Run::through(&setup(SYNC, BUFFERED), &[Op::Append(600), Op::Append(700), Op::Flush]);
    let mut bytes = run.fs.read_file(FIRST).expect("a segment");
    super::files::forge_header(&mut bytes, |header| {
        header[16] ^= 1;
        header[32..40].copy_from_slice(&40_u64.to_le_bytes());
    });
    run.fs.write_file("/log/0000000000000028.wal", &bytes).expect("a segment");
    let reader = files(&run).reader(lsn(&run, 1)).expect("a reader");
    assert!(reader.map(|record| record.map(|record| record.lsn)).any(|found| found.is_ok_and(|it| it == lsn(&run, 1))));
}

#[test]
fn padding_is_no_record() {
    let mut setup = setup(SYNC, 48);
    setup.config.segment_bytes_max = 16 << 10;
    let run = Run::through(&setup, &[Op::Append(100), Op::Append(200)]);
    let padding = Lsn::new(run.model.records[0].end());
    assert!(padding < lsn(&run, 1), "there is padding between the two");
    assert_eq!(run.log().read(padding).expect_err("it is no record").kind(), ErrorKind::NotFound);
    assert_eq!(run.log().reader(Lsn::ZERO).expect("a reader").count(), 2);
}

#[test]
fn an_iterator_ends_after_an_error() {
    let run = Run::through(&setup(SYNC, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Append(300), Op::Flush]);
    run.fs.flip_bit(FIRST, offset(&run, 1) + 50, 3).expect("it is in the segment");
    let results: Vec<bool> = run.log().reader(Lsn::ZERO).expect("a reader").take(10).map(|it| it.is_ok()).collect();
    assert_eq!(results, [true, false]);
}

#[test]
fn a_record_behind_damage_is_shown_only_if_it_is_proven_durable() {
    let run = Run::through(&setup(NONE, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Append(300)]);
    run.fs.flip_bit(FIRST, offset(&run, 1) + 50, 3).expect("it is in the segment");
    files(&run).read(lsn(&run, 2)).expect_err("nothing says that it was ever durable");
}

#[test]
fn a_record_behind_witnessed_damage_is_shown_only_if_it_is_proven_durable_itself() {
    for last in [Op::AppendWritten(20), Op::AppendDurable(20)] {
        let ops = [Op::AppendDurable(100), Op::AppendDurable(200), Op::AppendWritten(300), last];
        let run = Run::through(&setup(NONE, BUFFERED), &ops);
        run.fs.flip_bit(FIRST, offset(&run, 1) + 50, 3).expect("it is in the segment");
        // The frame of the third record proves the second one, and nothing proves the third.
        let error = files(&run).read(lsn(&run, 2)).expect_err("nothing says that it was ever durable");
        assert!(error.is_corruption(), "{error}");
    }
    let ops = [Op::AppendDurable(100), Op::AppendDurable(200), Op::AppendDurable(300), Op::AppendWritten(20)];
    let run = Run::through(&setup(NONE, BUFFERED), &ops);
    run.fs.flip_bit(FIRST, offset(&run, 1) + 50, 3).expect("it is in the segment");
    assert_eq!(files(&run).read(lsn(&run, 2)).expect("the frame behind it proves it").payload.len(), 300);
}

#[test]
fn a_reader_goes_on_after_a_read_that_failed_as_if_nothing_had_been() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Flush]);
        let eio = || Fault::error(wal::fs::sim::errno::EIO).on(Operation::Read);
        let mut reader = run.log().reader(Lsn::ZERO).expect("a reader");
        // The header is read, and then the records.
        run.fs.plan(eio().skip(1));
        reader.next_record().expect_err("the read failed");
        run.fs.forget_faults();
        // What it has open it need not open again.
        run.fs.plan(eio().skip(1));
        let record = reader.next_record().unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        assert_eq!(record.expect("a record").lsn, lsn(&run, 0), "mode {mode}");
        run.fs.forget_faults();
    }
}

#[test]
fn statistics_that_are_being_written_are_looked_at_again() {
    let mut setup = setup(SYNC, BUFFERED);
    setup.config.statistics_interval = Some(Duration::from_secs(1));
    let run = Run::through(&setup, &[Op::Append(100)]);
    run.clock.advance(Duration::from_secs(1));
    run.log().poll().expect("nothing is wrong with the log");
    run.fs.plan(Fault::new(Effect::FlipBit(5000)).on(Operation::Read).name("wal-statistics").times(2));
    let found = statistics(&run.fs, DIR).expect("it can be looked at");
    assert!(matches!(found, StatisticsFile::Valid(_)), "{found:?}");
}

#[test]
fn a_reader_of_files_shows_nothing_behind_the_end_that_the_next_segment_names() {
    let ops = [Op::Append(600), Op::Append(3000), Op::Append(3000), Op::Flush];
    let run = Run::through(&setup(SYNC, BUFFERED | NO_RECYCLING), &ops);
    // A whole frame, as a full disk may leave it of a record that it refused.
    let mut bytes = run.fs.read_file(FIRST).expect("a segment");
    super::files::forge(&mut bytes, run.model.records[1].end(), |frame| frame[15] = 0xF7);
    run.fs.write_file(FIRST, &bytes).expect("a segment");
    let shown: Vec<_> = files(&run).reader(Lsn::ZERO).expect("a reader").map(|it| it.expect("it reads").lsn).collect();
    assert_eq!(shown, [0, 1, 2].map(|index| lsn(&run, index)), "the second segment says where the first one ends");
}

#[test]
fn a_follower_reads_no_file_for_what_a_direct_write_has_just_left_on_the_device_alone() {
    let run = Run::through(&setup(SYNC, 0), &[Op::Append(100)]);
    let mut follower = run.log().follow(Lsn::ZERO).expect("a follower");
    follower.next_record().expect("it is there");
    run.fs.record_trace(true);
    for number in 0..40 {
        let lsn = run.log().append(&[number; 500]).expect("an append");
        let record = follower.next_record().expect("it is there");
        assert_eq!((record.lsn, record.payload), (lsn, vec![number; 500]));
    }
    assert!(run.log().stats().rotations > 1, "it has gone on to another segment");
    let trace = run.fs.take_trace();
    let of_frames = trace.iter().find(|event| event.operation == Operation::Read && event.offset >= 4096);
    assert_eq!(of_frames, None);
}

#[test]
fn a_follower_that_is_behind_reads_on_in_a_segment_that_a_cut_has_rewritten() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, 0), &[Op::Append(100)]);
        let mut follower = run.log().follow(run.log().next_lsn()).expect("a follower");
        let append = |payload: &[u8]| {
            let lsn = run.log().append(payload).expect("an append");
            run.log().flush().expect("a flush");
            lsn
        };
        let lsns: Vec<Lsn> = (0..6).map(|number| append(&[number; 100])).collect();
        run.log().truncate_after(lsns[3]).expect("a cut");
        let mut next = || follower.next_record().unwrap_or_else(|why| panic!("mode {mode}: {why}")).lsn;
        assert_eq!([next(), next(), next(), next()], lsns[..4]);
        assert_eq!(append(b"behind the cut"), next());
    }
}
