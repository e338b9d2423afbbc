//! How the next segment gets its space when appends wait for it: in large steps, or preallocated where that costs them less.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wal::fs::OpenMode;
use wal::fs::sim::{CrashPlan, SimFs, errno};
use wal::{Config, Error, Lsn, ManualClock, Wal};
use wal_tests::recovery::DIR;
use wal_tests::watchdog::Watchdog;

use super::hooked::{Call, Hooked, filled_in_steps};

const MIB: u64 = 1 << 20;

/// A log on a clock that goes on only while segments are filled and synced, and what was done to fill them.
struct Scene {
    log: Wal,
    fs: SimFs,
    /// The steps, and the preallocations that were asked for, each with the name of the segment.
    made: Arc<Mutex<Vec<(Call, String)>>>,
    /// What the next preallocations fail with.
    refusals: Arc<Mutex<Vec<i32>>>,
    segment_bytes: u64,
}

/// Each step takes so long, and so does the sync of a filled segment.
fn scene(segment_bytes: u64, step: Duration, sync: Duration) -> Scene {
    let (fs, clock) = (SimFs::new(1), Arc::new(ManualClock::default()));
    let made: Arc<Mutex<Vec<(Call, String)>>> = Arc::default();
    let refusals: Arc<Mutex<Vec<i32>>> = Arc::default();
    let (turned, calls, refused) = (Arc::clone(&clock), Arc::clone(&made), Arc::clone(&refusals));
    let hooked = Hooked::new(&fs, move |call, name| {
        if !name.ends_with(".prepare") {
            return Ok(());
        }
        match call {
            Call::Write(OpenMode::WriteDirectUnsynced) => turned.advance(step),
            Call::SyncFile => turned.advance(sync),
            Call::Preallocate => {}
            _ => return Ok(()),
        }
        calls.lock().expect("nobody panics with it").push((call, name.to_owned()));
        let refusal = (call == Call::Preallocate).then(|| refused.lock().expect("nobody panics with it").pop());
        refusal.flatten().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    });
    let config = Config { segment_bytes_max: segment_bytes, ..filled_in_steps() };
    let log = Wal::opener(config).file_system(Arc::new(hooked)).clock(clock).open(DIR).expect("a new log");
    Scene { log, fs, made, refusals, segment_bytes }
}

/// Where the filling takes longer than preallocation for groups of more than half a step.
fn slow_to_fill(segment_bytes: u64) -> Scene {
    scene(segment_bytes, Duration::from_millis(2), Duration::from_millis(1))
}

impl Scene {
    fn count(&self, call: Call, segment: u64) -> usize {
        let name = format!("{segment:016x}.prepare");
        let made = self.made.lock().expect("nobody panics with it");
        made.iter().filter(|(other, of)| *other == call && *of == name).count()
    }

    fn steps(&self, segment: u64) -> usize {
        self.count(Call::Write(OpenMode::WriteDirectUnsynced), segment)
    }

    fn preallocations(&self, segment: u64) -> usize {
        self.count(Call::Preallocate, segment)
    }

    /// The payload of a record that takes up a segment.
    fn whole(&self, byte: u8) -> Vec<u8> {
        vec![byte; self.segment_bytes as usize - 4096 - 24]
    }

    /// Appends a record that takes up a segment.
    fn append(&self, byte: u8) -> wal::Result<Lsn> {
        self.log.append(&self.whole(byte))
    }

    /// Uses so little of the first segment that nobody prepares the second one before it is needed. That one is filled in large steps, and
    /// full then.
    fn measure(&self) -> [Lsn; 2] {
        [self.log.append(&vec![1; self.segment_bytes as usize / 10]), self.append(2)].map(|lsn| lsn.expect("an append"))
    }

    /// Waits until so many segments were prepared.
    fn await_prepared(&self, count: u64) {
        while self.log.stats().segments_prepared < count {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_segment_that_an_append_waits_for_is_filled_in_large_steps() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(3 * MIB + (64 << 10));
    scene.measure();
    assert_eq!(scene.steps(2), 4, "three large ones and the rest");
    assert_eq!(scene.preallocations(2), 0, "nobody knows yet what filling costs");
}

#[test]
fn a_segment_that_a_truncation_waits_for_is_filled_in_small_steps() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(MIB);
    scene.log.append(b"small").expect("an append");
    scene.log.truncate_before(scene.log.next_lsn()).expect("a truncation that seals the first segment");
    assert_eq!(scene.steps(2), 8, "appends go on meanwhile");
}

#[test]
fn a_segment_that_large_groups_outrun_is_preallocated_where_filling_costs_more() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(2 * MIB);
    let [first, second] = scene.measure();
    let third = scene.append(3).expect("an append");
    assert_eq!((scene.steps(3), scene.preallocations(3)), (0, 1));
    let after = scene.fs.crash(&CrashPlan::keep_nothing());
    let log = Wal::opener(filled_in_steps()).file_system(Arc::new(after)).open(DIR).expect("it opens");
    assert_eq!(log.read(first).expect("it is durable").payload.len() as u64, 2 * MIB / 10);
    for (lsn, byte) in [(second, 2), (third, 3)] {
        assert!(log.read(lsn).expect("it is durable").payload == scene.whole(byte), "record {byte}");
    }
}

#[test]
fn a_segment_is_filled_where_preallocation_costs_more() {
    let _watchdog = Watchdog::start();
    let scene = scene(2 * MIB, Duration::from_millis(2), Duration::from_millis(5));
    scene.measure();
    scene.append(3).expect("an append");
    assert!(scene.steps(3) > 0);
    assert_eq!(scene.preallocations(3), 0);
}

#[test]
fn a_segment_that_smaller_groups_outrun_is_filled() {
    let _watchdog = Watchdog::start();
    // Groups of more than a step are better off in space that is preallocated.
    let scene = scene(2 * MIB, Duration::from_millis(1), Duration::from_millis(1));
    scene.measure();
    // It makes the filling of the fourth segment late. Only together with those in the segments before is it one of large groups.
    scene.log.append(&vec![3; 900 << 10]).expect("an append");
    assert_eq!((scene.steps(3), scene.preallocations(3)), (0, 1));
    scene.append(4).expect("an append");
    assert!(scene.steps(4) > 0);
    assert_eq!(scene.preallocations(4), 0);
}

#[test]
fn a_segment_that_is_filled_in_time_is_not_preallocated() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(4 * MIB);
    scene.measure();
    // The fourth segment is prepared while the third one is used: a group that makes a step due, and makes none late.
    scene.log.append(&vec![3; 600 << 10]).expect("an append");
    while scene.steps(4) == 0 {
        std::thread::yield_now();
    }
    scene.log.close().expect("a clean close");
    assert_eq!((scene.preallocations(3), scene.preallocations(4)), (1, 0));
}

#[test]
fn after_fifteen_preallocated_segments_one_is_filled_and_measured_again() {
    let watchdog = Watchdog::start();
    let scene = slow_to_fill(MIB);
    scene.measure();
    for segment in 3..=18 {
        watchdog.beat(|| format!("segment {segment}"));
        scene.append(segment as u8).expect("an append");
        assert_eq!(scene.preallocations(segment), usize::from(segment < 18), "segment {segment}");
    }
    assert!(scene.steps(18) > 0);
}

#[test]
fn where_the_file_system_does_not_preallocate_segments_are_filled() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(2 * MIB);
    scene.fs.configure(|config| config.preallocation = false);
    scene.measure();
    scene.append(3).expect("an append");
    assert!(scene.preallocations(3) > 0 && scene.steps(3) > 0);
}

#[test]
fn a_preallocation_that_is_interrupted_is_tried_again() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(2 * MIB);
    scene.refusals.lock().expect("nobody panics with it").push(errno::EINTR);
    scene.measure();
    scene.append(3).expect("an append");
    assert_eq!((scene.steps(3), scene.preallocations(3)), (0, 2));
    assert_eq!(scene.log.stats().preparation_failures, 0);
}

#[test]
fn a_preallocation_that_fails_refuses_the_append_leaves_nothing_and_the_log_goes_on() {
    let _watchdog = Watchdog::start();
    for (errno, is_expected) in [(errno::ENOSPC, Error::is_full as fn(&Error) -> bool), (errno::EIO, |_| true)] {
        let scene = slow_to_fill(2 * MIB);
        *scene.refusals.lock().expect("nobody panics with it") = vec![errno; 100];
        scene.measure();
        let error = scene.append(3).expect_err("there is no next segment");
        assert!(is_expected(&error) && !error.is_poisoned(), "{error}");
        let names = scene.fs.names(DIR).expect("the log is there");
        assert!(!names.iter().any(|name| name.starts_with("0000000000000003")), "{names:?}");
        scene.refusals.lock().expect("nobody panics with it").clear();
        scene.append(3).expect("it is tried again");
        assert_eq!(scene.steps(3), 0);
    }
}

#[test]
fn a_preallocated_segment_has_its_space_on_a_full_disk() {
    let _watchdog = Watchdog::start();
    let scene = slow_to_fill(2 * MIB);
    scene.measure();
    scene.await_prepared(2);
    assert_eq!((scene.steps(3), scene.preallocations(3)), (0, 1));
    let used = scene.fs.space_used();
    scene.fs.configure(|config| config.capacity = Some(used));
    let third = scene.append(3).expect("its segment has the space");
    let error = scene.append(4).expect_err("there is none for a further one");
    assert!(error.is_full(), "{error}");
    assert!(scene.log.read(third).expect("the log goes on").payload == scene.whole(3));
}

#[test]
fn a_crash_at_any_call_while_a_segment_is_preallocated_and_used_keeps_what_was_acknowledged() {
    let watchdog = Watchdog::start();
    let scene = slow_to_fill(2 * MIB);
    scene.fs.keep_crash_points(true);
    let kept = scene.measure();
    scene.append(3).expect("an append");
    scene.log.append(b"behind it").expect("an append");
    let mut seen = [0; 5];
    for (call, fs) in scene.fs.take_crash_points() {
        for seed in 0..4 {
            watchdog.beat(|| format!("crash at call {call}, seed {seed}"));
            // Nothing is there before the log is created.
            let after = Arc::new(fs.crash(&CrashPlan::random(seed).with_torn_sectors()));
            let log = Wal::opener(filled_in_steps()).file_system(after).open(DIR).expect("it opens");
            let records = log.reader(Lsn::ZERO).expect("a reader").map(|record| record.expect("it can be read"));
            let lens: Vec<usize> = records.map(|record| record.payload.len()).collect();
            let expected = [2 * MIB as usize / 10, scene.whole(2).len(), scene.whole(3).len(), b"behind it".len()];
            assert!(expected.starts_with(&lens), "crash at call {call}, seed {seed}: {lens:?}");
            seen[lens.len()] += 1;
            log.close().expect("a clean close");
        }
    }
    assert!(kept[0] < kept[1] && seen[..4].iter().all(|count| *count > 0), "{seen:?}");
}
