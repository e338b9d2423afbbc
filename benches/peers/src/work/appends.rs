//! Appends to logs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wal_benches::bench::{FRAME_HEADER_BYTES, payload};
use wal_benches::disk::Way;
use wal_benches::group::GroupFloor;
use wal_benches::measure::{Outcome, Sample, closed_loop, closed_loop_on};
use wal_benches::report::{APPENDS, MAX, P50, P99, P999, TRUNCATIONS, Table};

use super::{Contest, Entrant, Report};
use crate::logs::{self, Log, Peer, Setting};
use crate::{Ack, Run};

const RECORD_BYTES: usize = 256;
const FRAME_BYTES: usize = RECORD_BYTES + FRAME_HEADER_BYTES;
const THREADS: [usize; 6] = [1, 2, 4, 8, 16, 64];
const WRITTEN_THREADS: [usize; 2] = [1, 4];

const ROTATION_RECORD_BYTES: usize = 4 << 10;
const ROTATION_THREADS: usize = 4;
const SEGMENT_BYTES: u64 = 16 << 20;
const TRUNCATE_EVERY: Duration = Duration::from_millis(200);

/// Measures a new log in a new directory.
fn new_log(
    run: &Run,
    peer: Peer,
    setting: Setting,
    measure: impl FnOnce(&dyn Log) -> Outcome<Sample>,
) -> Outcome<Sample> {
    let dir = run.bench.scratch()?;
    let log = (peer.open)(dir.path(), setting)?;
    measure(log.as_ref())
}

/// The logs that take part, ours apart from the others.
fn entrants<'a>(
    run: &'a Run,
    can: impl Fn(&Peer) -> bool,
    measure: impl Fn(Peer) -> Outcome<Sample> + Clone + 'a,
) -> Outcome<(Entrant<'a>, Vec<Entrant<'a>>)> {
    let mut all = logs::all().into_iter().filter(|peer| run.wants(peer.name) && can(peer)).map(|peer| {
        let measure = measure.clone();
        Entrant::new(peer.name, move || measure(peer))
    });
    let ours = all.next().ok_or("our log is the first")?;
    Ok((ours, all.collect()))
}

/// Blocking appends by many threads.
pub fn logs(run: &Run) -> Outcome<Report> {
    let table = Table::new(
        "logs",
        "blocking appends of 256 B, each durable when it returns, closed loop, by number of threads",
        "floor: leader and followers with gathering, no checksums, no log; each log is a new one in each run",
        &[P50, P99, P999, APPENDS],
    );
    let payload = payload(RECORD_BYTES);
    let frame = vec![0x5A; FRAME_BYTES];
    let mut contest = Contest::new(run, "logs", table);
    for threads in run.threads(&THREADS) {
        let group = GroupFloor::new(run.bench.store(run.bench.best_way, threads * FRAME_BYTES)?);
        let mut floors = vec![Entrant::new("floor", || {
            closed_loop_on(threads, run.bench.length, RECORD_BYTES, || group.append(&frame))
        })];
        if threads == 1 {
            let mut store = run.bench.store(run.bench.best_way, FRAME_BYTES)?;
            floors.push(Entrant::new("one durable write", move || {
                closed_loop(run.bench.length, RECORD_BYTES, || Ok(store.write(FRAME_BYTES)?))
            }));
        }
        let setting = Setting { ack: Ack::Synced, segment_bytes: None };
        let payload = &payload;
        let (ours, peers) = entrants(
            run,
            |_| true,
            move |peer| {
                new_log(run, peer, setting, |log| {
                    closed_loop_on(threads, run.bench.length, RECORD_BYTES, || log.append(payload))
                })
            },
        )?;
        contest.group(&format!("{threads:>2}"), floors, ours, peers)?;
    }
    Ok(contest.report())
}

/// Appends while segments end and old ones are given up.
pub fn rotation(run: &Run) -> Outcome<Report> {
    let table = Table::new(
        "rotation",
        "4 KiB records, 4 threads, 16 MiB segments, each append durable when it returns, closed loop; half is given up every 200 ms",
        "floor: group commit into one file that never ends; a log that gives up old segments by itself is asked all the same",
        &[P50, P99, P999, MAX, APPENDS, TRUNCATIONS],
    );
    let payload = payload(ROTATION_RECORD_BYTES);
    // Truncations are far apart, so these runs are longer than the others.
    let length = run.bench.length * 2;
    let frame = vec![0x5A; ROTATION_RECORD_BYTES + FRAME_HEADER_BYTES];
    let group = GroupFloor::new(run.bench.store(run.bench.best_way, ROTATION_THREADS * frame.len())?);
    let floor = Entrant::new("floor", || {
        closed_loop_on(ROTATION_THREADS, length, ROTATION_RECORD_BYTES, || group.append(&frame))
    });
    let setting = Setting { ack: Ack::Synced, segment_bytes: Some(SEGMENT_BYTES) };
    let payload = &payload;
    let (ours, peers) = entrants(
        run,
        |peer| peer.has_truncation,
        move |peer| {
            new_log(run, peer, setting, |log| {
                truncated_meanwhile(log, || {
                    closed_loop_on(ROTATION_THREADS, length, ROTATION_RECORD_BYTES, || log.append(payload))
                })
            })
        },
    )?;
    let mut contest = Contest::new(run, "rotation", table);
    contest.group("", vec![floor], ours, peers)?;
    Ok(contest.report())
}

fn truncated_meanwhile(log: &dyn Log, measure: impl FnOnce() -> Outcome<Sample>) -> Outcome<Sample> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let truncating = scope.spawn(|| -> Outcome<u64> {
            let mut count = 0;
            std::thread::sleep(TRUNCATE_EVERY);
            while !is_done.load(Ordering::Relaxed) {
                log.truncate()?;
                count += 1;
                std::thread::sleep(TRUNCATE_EVERY);
            }
            Ok(count)
        });
        let sample = measure();
        is_done.store(true, Ordering::Relaxed);
        let truncations = truncating.join().map_err(|_| "the truncating thread panicked")??;
        Ok(Sample { truncations, ..sample? })
    })
}

/// Appends that the operating system has when they return.
pub fn written(run: &Run) -> Outcome<Report> {
    let table = Table::new(
        "written",
        "blocking appends of 256 B, with the operating system when they return, no sync waited for, closed loop, by number of threads",
        "floor: one pwrite of the same bytes by one thread; a kill of the process loses nothing, a loss of power may lose the end",
        &[P50, P99, P999, APPENDS],
    );
    let payload = payload(RECORD_BYTES);
    let mut contest = Contest::new(run, "written", table);
    for threads in run.threads(&WRITTEN_THREADS) {
        let mut store = run.bench.store(Way::Cached, FRAME_BYTES)?;
        let floor = Entrant::new("floor", move || {
            closed_loop(run.bench.length, RECORD_BYTES, || Ok(store.write(FRAME_BYTES)?))
        });
        let setting = Setting { ack: Ack::Written, segment_bytes: None };
        let payload = &payload;
        let (ours, peers) = entrants(
            run,
            |peer| peer.has_written,
            move |peer| {
                new_log(run, peer, setting, |log| {
                    closed_loop_on(threads, run.bench.length, RECORD_BYTES, || log.append(payload))
                })
            },
        )?;
        contest.group(&format!("{threads:>2}"), vec![floor], ours, peers)?;
    }
    Ok(contest.report())
}
