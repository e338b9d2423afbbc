//! Append, rotate, truncate and follow, all at once, with every result checked for linearizability.

use wal_scheduled::{Config, Follower, Lsn, Reader, Result, SyncMode, Wal};
use wal_scheduler::pick;
use wal_scheduler::thread::JoinHandle;

use crate::disk::Disk;
use crate::linear::{Call, History, end_of, found};
use crate::world::{config, explorer, finish, inline, open, payload, spawn, template};

/// Three of these fill a segment.
const BYTES: usize = 1200;

/// A log that holds `count` records, and its history from then on.
fn start(log: &Wal, count: u8) -> (Vec<Lsn>, History) {
    let start = log.start_lsn();
    let append = |number| (log.append(&payload(9, number, BYTES)).expect("it works"), payload(9, number, BYTES));
    let records: Vec<_> = (0..count).map(append).collect();
    let lsns = records.iter().map(|(lsn, _)| *lsn).collect();
    (lsns, History::new(start, log.durable_lsn(), records))
}

fn appends(log: &Wal, history: &History, writer: u8, count: u8) -> JoinHandle<()> {
    let (log, history) = (log.clone(), history.clone());
    spawn("writer", move || {
        for number in 0..count {
            let payload = payload(writer, number, BYTES);
            let append = || log.append(&payload).expect("it works");
            history.call(append, |lsn| Call::Append(payload.clone(), *lsn));
        }
    })
}

/// Makes a few calls that look, and checks that the two marks are what somebody could have seen.
fn looks(log: &Wal, history: &History, lsns: &[Lsn]) -> JoinHandle<()> {
    let (log, history, lsns) = (log.clone(), history.clone(), lsns.to_vec());
    spawn("observer", move || {
        for _ in 0..4 {
            let lsn = lsns[pick(lsns.len())];
            match pick(3) {
                0 => drop(history.call(|| log.start_lsn(), |lsn| Call::Start(*lsn))),
                1 => drop(history.call(|| log.durable_lsn(), |lsn| Call::Durable(*lsn))),
                _ => drop(history.call(|| log.read(lsn).map(Some), |result| Call::Read(lsn, found(result)))),
            }
        }
    })
}

/// Reads what is there, over and over, until there was nothing twice.
fn reads(mut reader: Reader, history: &History) -> JoinHandle<()> {
    let history = history.clone();
    spawn("reader", move || {
        let mut position = reader.position_lsn();
        let mut times_nothing = 0;
        while times_nothing < 2 {
            let next = || Ok(reader.next_record()?.map(|record| record.to_record()));
            match history.call(next, |result| Call::Next(position, found(result))) {
                Ok(Some(record)) => position = end_of(record.lsn, &record.payload),
                Ok(None) => times_nothing += 1,
                Err(_) => return,
            }
        }
    })
}

/// Follows until it has seen so many records or is told that it missed some.
fn follows(mut follower: Follower, history: &History, count: usize) -> JoinHandle<()> {
    let history = history.clone();
    spawn("follower", move || {
        let mut position = follower.position_lsn();
        for _ in 0..count {
            let next: Result<_> =
                history.call(|| follower.next_record().map(Some), |result| Call::Next(position, found(result)));
            let Ok(Some(record)) = next else { return };
            position = end_of(record.lsn, &record.payload);
        }
    })
}

fn appends_rotations_truncations_and_followers_race(name: &str, config: Config) {
    let template = template(&config);
    explorer(name).check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        // Three in the first segment, two in the active one: the second truncation has to seal that.
        let (lsns, history) = start(&log, 5);
        let writers: Vec<_> = (0..2).map(|number| appends(&log, &history, number, 2)).collect();
        let follower = follows(log.follow(lsns[0]).expect("it is there"), &history, 9);
        let observer = looks(&log, &history, &lsns);
        for to in [lsns[1], lsns[4]] {
            history.call(|| log.truncate_before(to).expect("it works"), |_| Call::TruncateBefore(to));
            history.call(|| log.start_lsn(), |lsn| Call::Start(*lsn));
        }
        writers.into_iter().for_each(finish);
        finish(follower);
        finish(observer);
        log.close().expect("it closes");
        history.check();
    });
}

#[test]
fn append_rotate_truncate_and_follow_are_linearizable() {
    appends_rotations_truncations_and_followers_race("truncate race", config(SyncMode::Sync));
    appends_rotations_truncations_and_followers_race("truncate race, inline", inline(SyncMode::Sync));
    let direct = Config { direct_io: true, ..config(SyncMode::Sync) };
    appends_rotations_truncations_and_followers_race("truncate race, direct", direct);
}

fn appends_and_readers_race_with_a_cut(name: &str, config: Config) {
    let template = template(&config);
    explorer(name).check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let (lsns, history) = start(&log, 4);
        let writer = appends(&log, &history, 0, 3);
        let reader = reads(log.reader(lsns[0]).expect("it is there"), &history);
        let (other, seen, known) = (log.clone(), history.clone(), lsns.clone());
        let observer = spawn("observer", move || {
            for _ in 0..3 {
                let lsn = known[pick(known.len())];
                drop(seen.call(|| other.read(lsn).map(Some), |result| Call::Read(lsn, found(result))));
            }
        });
        let to = lsns[1 + pick(3)];
        history.call(|| log.truncate_after(to).expect("it works"), |_| Call::TruncateAfter(to));
        finish(writer);
        finish(reader);
        finish(observer);
        log.close().expect("it closes");
        history.check();
    });
}

#[test]
fn append_read_and_cut_are_linearizable() {
    appends_and_readers_race_with_a_cut("cut race", config(SyncMode::Sync));
    appends_and_readers_race_with_a_cut("cut race, inline", inline(SyncMode::Sync));
}
