//! The order of calls, where a crash cannot show it.

use wal::fs::sim::{Event, Operation};
use wal_tests::recovery::open;
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, NO_RECYCLING, NONE, SYNC, names, setup};

/// Nothing is created between the removal of a segment and the sync of its directory: the blocks of the one could become those of
/// the other while a crash may still bring the old name back.
fn check_removals(trace: &[Event]) -> usize {
    let mut removed: Option<&Event> = None;
    let mut removals = 0;
    for event in trace {
        match event.operation {
            Operation::Remove if event.path.ends_with(".wal") => {
                removed = Some(event);
                removals += 1;
            }
            Operation::SyncDir => removed = None,
            Operation::Create => assert!(removed.is_none(), "{event:?} follows {removed:?} without a sync"),
            _ => {}
        }
    }
    assert!(removed.is_none(), "the removal is not synced at all: {removed:?}");
    removals
}

#[test]
fn the_removal_of_a_segment_is_durable_before_another_file_is_created() {
    for mode in [SYNC, BATCH, NONE] {
        // The last record reaches into the reserve, so the fourth segment is prepared for it, and not used.
        let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Append(900), Op::Flush];
        for change in [Op::After(0), Op::After(50), Op::BeforeWhole(100), Op::Before(100)] {
            let run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &ops);
            assert!(names(&run).contains(&"0000000000000004.wal".to_owned()), "no segment is prepared");
            run.fs.record_trace(true);
            let lsn = match change {
                Op::After(0) => run.model.records[0].lsn,
                Op::After(_) => run.model.records[1].lsn,
                _ => run.model.records[3].lsn,
            };
            let lsn = wal::Lsn::new(lsn);
            match change {
                Op::After(_) => run.log().truncate_after(lsn).map(drop),
                Op::BeforeWhole(_) => run.log().truncate_before_with(lsn, wal::TruncatePolicy::WholeSegments).map(drop),
                _ => run.log().truncate_before(lsn).map(drop),
            }
            .expect("it works");
            let removals = check_removals(&run.fs.take_trace());
            assert!(removals > 0, "mode {mode}, {change:?} removes nothing");
        }
        // An unclean open removes what lies behind the end that it keeps.
        let run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &ops);
        let fs = run.fs.kill();
        for number in [5, 6] {
            fs.write_file(format!("/log/{number:016x}.wal"), &[0; 8192]).expect("a blank segment");
        }
        fs.record_trace(true);
        open(&fs, &run.setup, &run.clock).expect("it opens");
        assert!(check_removals(&fs.take_trace()) > 0, "mode {mode}: the open removes nothing");
    }
}
