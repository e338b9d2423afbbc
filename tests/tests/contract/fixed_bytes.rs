//! Without a background, equal calls write equal bytes.

use std::sync::Arc;
use std::time::Duration;

use wal::{AppendOptions, Background, Config, Durability, ManualClock, RecordType, SyncMode, Wal};

use crate::world::{World, fill, lazy_batch, payload, records, small_with};

on_both_file_systems! {
    the_same_operations_write_the_same_bytes,
    the_log_id_and_the_clock_are_what_was_given,
}

const ID: [u8; 16] = *b"fixed identity..";

fn open(world: &World, mode: SyncMode) -> (Wal, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(1000));
    let config = Config { background: Background::Inline, ..small_with(mode) };
    let opener = Wal::opener(config).file_system(Arc::clone(&world.fs)).log_id(ID);
    (opener.clock(Arc::<ManualClock>::clone(&clock)).open(&world.path).unwrap(), clock)
}

fn write(world: &World, mode: SyncMode) {
    let (log, clock) = open(world, mode);
    fill(&log, 20);
    clock.advance(Duration::from_secs(5));
    let typed = AppendOptions::new().record_type(RecordType::new(5).unwrap()).durability(Durability::Durable);
    log.append_with(b"typed", typed).unwrap();
    for number in 0..10 {
        drop(log.submit(&payload(number, 200)).unwrap());
    }
    log.poll().unwrap();
    log.append_batch(&["one", "two", "three"]).unwrap();
    let durable = log.flush().unwrap();
    log.declare_checkpoint(durable).unwrap();
    log.truncate_before(wal::Lsn::new(6000)).unwrap();
    let last = fill(&log, 30)[20];
    log.flush().unwrap();
    log.truncate_after(last).unwrap();
    fill(&log, 3);
    log.close().unwrap();
}

fn the_same_operations_write_the_same_bytes(world: &World) {
    for (round, mode) in [SyncMode::Sync, lazy_batch(), SyncMode::None].into_iter().enumerate() {
        let (one, two) = (World::simulated(), World::simulated());
        write(&one, mode);
        write(&two, mode);
        assert!(one.files() == two.files());
        if round == 0 {
            write(world, mode);
            assert!(one.files() == world.files(), "the file system makes no difference");
        }
        assert_eq!(one.read_files().0.len(), two.read_files().0.len());
    }
}

fn the_log_id_and_the_clock_are_what_was_given(world: &World) {
    let (log, _) = open(world, SyncMode::Sync);
    assert_eq!(log.log_id().bytes(), ID);
    log.append(b"record").unwrap();
    assert_eq!(records(&log).len(), 1);
    log.close().unwrap();
    let segment = world.read("0000000000000001.wal");
    assert_eq!((&segment[16..32], &segment[96..104]), (&ID[..], &1_000_000_000_u64.to_le_bytes()[..]));
    let control = world.read("control");
    assert_eq!((&control[16..32], &control[112..120]), (&ID[..], &1_000_000_000_u64.to_le_bytes()[..]));
}
