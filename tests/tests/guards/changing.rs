//! Readers of the files while the log's structure changes under them, at moments that the model of readers found.

use std::sync::{Arc, Condvar, Mutex};

use wal::fs::OpenMode;
use wal::fs::sim::SimFs;
use wal::inspect::{Depth, Outcome, survey};
use wal::{Config, ErrorKind, LogReader, Lsn, Reader, Wal};
use wal_tests::recovery::DIR;
use wal_tests::watchdog::Watchdog;

use super::hooked::{Call, Hooked, three_segments};
use super::{BUFFERED, NO_RECYCLING, SYNC, setup};

const SECOND: &str = "0000000000000002.wal";
const THIRD: &str = "0000000000000003.wal";

fn config() -> Config {
    setup(SYNC, BUFFERED | NO_RECYCLING).config
}

/// A reader of the files that has read all records.
fn read_all(log: &LogReader, lsns: &[Lsn]) -> Reader {
    let mut reader = log.reader(Lsn::ZERO).expect("a reader");
    for lsn in lsns {
        assert_eq!(reader.next_record().expect("it reads").expect("a record").lsn, *lsn);
    }
    reader
}

#[test]
fn a_reader_of_files_that_has_read_what_is_being_cut_ends_where_the_log_did_or_is_told() {
    let (fs, lsns) = three_segments(config(), 2);
    let waiting: Arc<Mutex<Vec<Reader>>> = Arc::default();
    let armed = Arc::clone(&waiting);
    // At each step of the cut another one is asked for more.
    let wrong: Arc<Mutex<Vec<String>>> = Arc::default();
    let found = Arc::clone(&wrong);
    let hooked = Hooked::new(&fs, move |call, name| {
        let reader = armed.lock().expect("nobody panics with it").pop();
        let Some(mut reader) = reader else { return Ok(()) };
        let position = reader.position_lsn();
        let why = match reader.next_record().map(|record| record.map(|record| record.lsn)) {
            Ok(None) if reader.end().is_some_and(|end| end.lsn == position) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Truncated => return Ok(()),
            other => format!("before {call:?} {name}: {other:?}, {:?}", reader.end()),
        };
        found.lock().expect("nobody panics with it").push(why);
        Ok(())
    });
    let log = hooked.open(config()).expect("it opens");
    let files = LogReader::open_with(&fs, DIR).expect("the log is there");
    *waiting.lock().expect("nobody panics with it") = (0..40).map(|_| read_all(&files, &lsns)).collect();
    log.truncate_after(lsns[0]).expect("a cut");
    let left = std::mem::take(&mut *waiting.lock().expect("nobody panics with it"));
    assert!((1..35).contains(&left.len()), "{} readers were not asked", left.len());
    let wrong = wrong.lock().expect("nobody panics with it");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_looks_like_damage_twice_and_differs_is_looked_at_once_more() {
    let (fs, lsns) = three_segments(config(), 1);
    let log = Wal::opener(config()).file_system(Arc::new(fs.clone())).open(DIR).expect("it opens");
    // How often the control file and the third segment were opened since the reader stands at the end.
    let opened: Arc<Mutex<Option<(u32, u32)>>> = Arc::default();
    let counted = Arc::clone(&opened);
    let (writer, kept) = (log.clone(), lsns[0]);
    let hooked = Hooked::new(&fs, move |call, name| {
        let mut opened = counted.lock().expect("nobody panics with it");
        let Some((control, third)) = opened.as_mut() else { return Ok(()) };
        match (call, name) {
            (Call::Open(OpenMode::Read), "control") => {
                *control += 1;
                if *control == 1 {
                    // It has seen no further record, and is about to look whether the log ends here.
                    writer.append(&[7; 50]).expect("an append");
                }
            }
            (Call::Open(OpenMode::Read), THIRD) if *control == 3 => {
                *third += 1;
                if *third == 2 {
                    // It looks for its segment again and has found it.
                    writer.truncate_after(kept).expect("a cut");
                }
            }
            _ => {}
        }
        Ok(())
    });
    let files = LogReader::open_with(&hooked, DIR).expect("the log is there");
    let mut reader = read_all(&files, &lsns);
    *opened.lock().expect("nobody panics with it") = Some((0, 0));
    let error = reader.next_record().map(drop).expect_err("its records were cut");
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    let opened = opened.lock().expect("nobody panics with it").expect("it was set");
    assert!(opened.0 >= 3 && opened.1 == 2, "both happened: {opened:?}");
}

/// How far two threads have come that wait for each other.
#[derive(Debug, Default)]
struct Stage(Mutex<u32>, Condvar);

impl Stage {
    fn reach(&self, stage: u32) {
        let mut reached = self.0.lock().expect("nobody panics with it");
        *reached = stage.max(*reached);
        self.1.notify_all();
    }

    fn has_reached(&self, stage: u32) -> bool {
        *self.0.lock().expect("nobody panics with it") >= stage
    }

    fn wait_for(&self, stage: u32) {
        let reached = self.0.lock().expect("nobody panics with it");
        drop(self.1.wait_while(reached, |reached| *reached < stage).expect("nobody panics with it"));
    }
}

/// Has a cut remove two segments between the first look's control file and headers, and finish between the second look's names and control file. Both
/// looks then miss the second segment.
fn survey_during_a_cut(fs: &SimFs, kept: Lsn) -> Outcome {
    let stage: Arc<Stage> = Arc::default();
    let (of_writer, of_reader) = (Arc::clone(&stage), Arc::clone(&stage));
    let writer = Hooked::new(fs, move |call, name| {
        // The segments are removed, and the new active one is about to get its name.
        if call == Call::Open(OpenMode::Read) && name == SECOND && of_writer.has_reached(1) {
            of_writer.reach(2);
            of_writer.wait_for(3);
        }
        Ok(())
    });
    let log = writer.open(config()).expect("it opens");
    let listed = Mutex::new(0);
    let reader = Hooked::new(fs, move |call, name| {
        let mut listed = listed.lock().expect("nobody panics with it");
        match (call, name) {
            (Call::List, _) => *listed += 1,
            (Call::Open(OpenMode::Read), "0000000000000001.wal") if *listed == 1 => {
                of_reader.reach(1);
                of_reader.wait_for(2);
            }
            (Call::Open(OpenMode::Read), "control") if *listed == 2 => {
                of_reader.reach(3);
                of_reader.wait_for(4);
            }
            _ => {}
        }
        Ok(())
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stage.wait_for(1);
            log.truncate_after(kept).expect("a cut");
            stage.reach(4);
        });
        survey(&reader, DIR, Depth::Full, |_| {}).expect("it can be looked at").outcome
    })
}

#[test]
fn two_looks_at_a_log_that_is_being_cut_that_miss_the_same_segment_are_no_damage() {
    let _watchdog = Watchdog::start();
    let (fs, lsns) = three_segments(config(), 1);
    let outcome = survey_during_a_cut(&fs, lsns[0]);
    assert!(matches!(outcome, Outcome::Kept), "{outcome:?}");
}
