//! Appends that race each other, rotation and the close.

use wal_scheduled::{Config, SyncMode, Wal};
use wal_scheduler::Explorer;

use crate::disk::Disk;
use crate::world::{
    BATCH, Told, check_crash, config, explorer, finish, inline, is_on_disk, open, seeds_only, template, writer,
};

fn writers_race(name: &str, config: Config, writers: u8, count: u8, bytes: usize) {
    writers_race_in(explorer(name), config, writers, count, bytes);
}

fn writers_race_in(explorer: Explorer, config: Config, writers: u8, count: u8, bytes: usize) {
    let template = template(&config);
    explorer.check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let told = Told::default();
        let tasks: Vec<_> = (0..writers).map(|number| writer(&log, &disk, &told, number, count, bytes)).collect();
        tasks.into_iter().for_each(|task| finish(task).expect("nothing fails"));
        assert_eq!(told.len(), usize::from(writers * count));
        check_crash(&disk.sim, &config, &told);
        log.close().expect("it closes");
        check_crash(&disk.sim, &config, &told);
        assert!(disk.script.syncs_at_once() <= 1, "one sync at a time");
    });
}

#[test]
fn an_acknowledged_record_is_durable_whoever_led_its_group() {
    writers_race("append sync", config(SyncMode::Sync), 3, 2, 100);
}

#[test]
fn an_acknowledged_record_is_durable_without_background_threads() {
    writers_race("append sync inline", inline(SyncMode::Sync), 3, 2, 100);
}

#[test]
fn an_acknowledged_record_is_durable_with_direct_writes() {
    writers_race("append direct", Config { direct_io: true, ..config(SyncMode::Sync) }, 3, 2, 100);
}

#[test]
fn an_acknowledged_record_is_durable_if_whoever_waits_stays_awake() {
    let busy_wait_max = std::time::Duration::from_secs(1);
    for (name, config) in [("append awake", config(SyncMode::Sync)), ("append awake inline", inline(SyncMode::Sync))] {
        let config = Config { busy_wait_max, ..config };
        writers_race_in(seeds_only(name), config, 3, 2, 100);
    }
}

#[test]
fn what_is_acknowledged_in_batch_mode_is_a_prefix() {
    writers_race("append batch", config(BATCH), 3, 2, 2500);
}

#[test]
fn what_is_acknowledged_in_none_mode_is_a_prefix() {
    writers_race("append none", config(SyncMode::None), 3, 2, 2500);
}

#[test]
fn appends_that_race_for_the_next_segment_all_get_one() {
    writers_race("rotate sync", config(SyncMode::Sync), 2, 3, 2500);
    writers_race("rotate inline", inline(SyncMode::Sync), 2, 3, 2500);
    // Such a segment is filled in steps, and at leisure if nobody waits for it. An append that was late for the one before does.
    writers_race("rotate direct", Config { direct_io: true, ..config(SyncMode::Sync) }, 3, 3, 1300);
}

/// However many segments are begun while a sync runs: what it says to be durable is.
#[test]
fn what_lies_below_the_durable_mark_is_on_disk_in_whichever_segment() {
    for mode in [SyncMode::None, BATCH] {
        let config = config(mode);
        let template = template(&config);
        explorer("durable mark").check(move || {
            let disk = Disk::new(template.kill());
            let log = open(&disk, &config);
            let told = Told::default();
            let look = |log: &Wal| {
                let (known, durable) = (told.records(), log.durable_lsn());
                for (lsn, payload) in known.iter().filter(|(lsn, _)| **lsn < durable) {
                    assert!(is_on_disk(&disk.sim, *lsn, payload), "durable up to {durable}, and a crash loses {lsn}");
                }
            };
            let tasks: Vec<_> = (0..2).map(|number| writer(&log, &disk, &told, number, 3, 2500)).collect();
            for _ in 0..3 {
                look(&log);
                log.flush().expect("nothing fails");
                look(&log);
            }
            tasks.into_iter().for_each(|task| finish(task).expect("nothing fails"));
            look(&log);
            log.flush().expect("nothing fails");
            look(&log);
            log.close().expect("it closes");
        });
    }
}
