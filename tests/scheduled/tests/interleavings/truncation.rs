//! Truncation against readers, holds and appends.

use wal_scheduled::{Config, ErrorKind, Lsn, SyncMode, Wal};
use wal_scheduler::pick;

use crate::disk::Disk;
use crate::world::{Told, check_prefixes, config, explorer, finish, inline, open, payload, spawn, template, writer};

/// A log with records of 1,200 bytes, three in a segment.
fn filled(log: &Wal, count: u8) -> Vec<Lsn> {
    (0..count).map(|number| log.append(&payload(9, number, 1200)).expect("it works")).collect()
}

fn readers_meet_truncation(name: &str, config: Config) {
    let template = template(&config);
    explorer(name).check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns = filled(&log, 5);
        let mut reader = log.reader(Lsn::ZERO).expect("from the start");
        let expected = lsns.clone();
        let task = spawn("reader", move || {
            let mut seen = 0;
            loop {
                match reader.next_record() {
                    // What was appended after the truncation follows what was there before.
                    Ok(Some(record)) if seen >= expected.len() => assert_eq!(record.payload[0], 8),
                    Ok(Some(record)) => {
                        assert_eq!(record.lsn, expected[seen], "no record is skipped");
                        assert!(record.payload == payload(9, seen as u8, 1200), "a record of other bytes");
                        seen += 1;
                    }
                    Ok(None) => return assert_eq!(seen, expected.len()),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
                        return;
                    }
                }
            }
        });
        // The removed segment's blocks take new records at once.
        let (truncated, to) = (log.clone(), lsns[1 + pick(4)]);
        let truncater = spawn("truncater", move || {
            truncated.truncate_before(to).expect("it works");
            for number in 0..2 {
                truncated.append(&payload(8, number, 3000)).expect("it works");
            }
        });
        finish(truncater);
        finish(task);
        let first =
            log.reader(Lsn::ZERO).expect("from the start").next().expect("a record is left").expect("it is whole");
        assert_eq!(first.lsn, to);
        log.close().expect("it closes");
    });
}

#[test]
fn a_reader_that_meets_a_truncation_sees_its_records_or_is_told() {
    readers_meet_truncation("reader and truncation", config(SyncMode::Sync));
    readers_meet_truncation("reader and truncation, inline", inline(SyncMode::Sync));
}

#[test]
fn a_hold_that_was_taken_keeps_its_record() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("hold").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns = filled(&log, 5);
        let (held, from) = (log.clone(), lsns[2]);
        let holder = spawn("holder", move || match held.hold("test", from) {
            Ok(hold) => {
                let record = held.read(from).expect("what is held can be read");
                assert_eq!(record.payload, payload(9, 2, 1200));
                drop(hold);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
        });
        for to in [lsns[2], lsns[4]] {
            match log.truncate_before(to) {
                Ok(done) => assert_eq!(done.start_lsn, to),
                Err(error) => assert!(error.kind() == ErrorKind::Refused && to > from, "{error}"),
            }
        }
        finish(holder);
        log.close().expect("it closes");
    });
}

#[test]
fn appends_go_on_while_the_start_is_truncated() {
    let config = Config { recycle_segments_max: 1, ..config(SyncMode::Sync) };
    let template = template(&config);
    explorer("append and truncate").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns = filled(&log, 4);
        let told = Told::default();
        let tasks: Vec<_> = (0..2).map(|number| writer(&log, &disk, &told, number, 2, 1500)).collect();
        for to in [lsns[1], lsns[3]] {
            assert_eq!(log.truncate_before(to).expect("it works").start_lsn, to);
        }
        tasks.into_iter().for_each(|task| finish(task).expect("nothing fails"));
        let found = log.reader(Lsn::ZERO).expect("from the start").map(|record| record.expect("it is whole"));
        let mut found: std::collections::BTreeMap<_, _> = found.map(|record| (record.lsn, record.payload)).collect();
        assert_eq!(found.remove(&lsns[3]), Some(payload(9, 3, 1200)));
        assert_eq!(found, told.records());
        check_prefixes(&found);
        log.close().expect("it closes");
    });
}

#[test]
fn appends_and_followers_meet_a_cut() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("append and cut").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns = filled(&log, 4);
        let mut follower = log.follow(lsns[1]).expect("from the second");
        let task = spawn("follower", move || {
            let mut last = Lsn::ZERO;
            loop {
                match follower.next_record() {
                    Ok(record) => {
                        assert!(record.lsn > last, "{} after {last}", record.lsn);
                        last = record.lsn;
                    }
                    Err(error) => return (last, error.kind()),
                }
            }
        });
        let told = Told::default();
        let appender = log.clone();
        let appended = told.clone();
        let writer = spawn("writer", move || {
            for number in 0..3 {
                let payload = payload(0, number, 900);
                let lsn = appender.append(&payload).expect("it works");
                appended.acknowledge(lsn, payload);
            }
        });
        let keep = lsns[1 + pick(3)];
        let done = log.truncate_after(keep).expect("it works");
        finish(writer);
        let found = log.reader(Lsn::ZERO).expect("from the start").map(|record| record.expect("it is whole"));
        let found: std::collections::BTreeMap<_, _> = found.map(|record| (record.lsn, record.payload)).collect();
        for (lsn, payload) in told.records() {
            // What was there when the log was cut is gone, what came later is there.
            assert_eq!(found.get(&lsn), (lsn >= done.next_lsn).then_some(&payload), "{lsn}, cut at {}", done.end_lsn);
        }
        assert!(found.contains_key(&keep) && found.keys().all(|&lsn| lsn <= keep || lsn >= done.next_lsn));
        log.close().expect("it closes");
        let (_, kind) = finish(task);
        assert!(matches!(kind, ErrorKind::Truncated | ErrorKind::Closed), "{kind:?}");
    });
}

#[test]
fn a_change_of_structure_that_meets_one_who_works_for_others_goes_on_when_he_is_done() {
    let config = inline(SyncMode::Sync);
    let template = template(&config);
    explorer("poll and cut").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns = filled(&log, 2);
        let worker = log.clone();
        let worker = spawn("worker", move || {
            let ticket = worker.submit(&payload(0, 0, 100)).expect("it is taken");
            worker.poll().expect("nothing fails");
            ticket.wait().expect("nothing fails")
        });
        let done = log.truncate_after(lsns[0]).expect("it works");
        let lsn = finish(worker);
        let is_there = log.read(lsn).is_ok();
        assert_eq!(is_there, lsn >= done.next_lsn, "{lsn}, cut at {}", done.end_lsn);
        log.close().expect("it closes");
    });
}
