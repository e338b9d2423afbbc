//! What is not what was written: the right kind of error, and nothing is changed.

use wal::{ErrorKind, Lsn};

use crate::world::{World, fill, records, reseal, small};

on_both_file_systems! {
    damage_in_an_old_segment_is_never_a_silent_end,
    a_missing_middle_segment_is_corruption,
    a_missing_first_segment_is_corruption,
    a_last_segment_deleted_after_a_clean_close_is_corruption,
    two_last_segments_deleted_after_a_clean_close_are_corruption,
    swapped_segments_are_corruption,
    a_segment_of_another_log_is_corruption,
    a_segment_of_an_earlier_state_of_the_log_is_corruption,
    a_deleted_control_file_is_corruption,
    a_control_file_of_another_log_is_corruption,
    a_zeroed_header_is_corruption,
    a_newer_segment_is_an_unsupported_version,
    a_newer_control_file_is_an_unsupported_version,
    a_required_feature_nobody_knows_is_an_unsupported_version,
    a_damaged_version_is_corruption,
    a_changed_payload_is_named_with_its_place,
    a_reader_that_met_damage_stays_there,
    a_reader_from_behind_damage_shows_nothing_in_front_of_where_it_begins,
    everything_gone_but_the_lock_is_a_new_log,
}

const FIRST: &str = "0000000000000001.wal";
const SECOND: &str = "0000000000000002.wal";
const THIRD: &str = "0000000000000003.wal";

/// A closed log of four segments, twelve records in each but the last.
fn closed(world: &World) -> Vec<Lsn> {
    let log = world.open(small());
    let all = fill(&log, 40);
    log.close().unwrap();
    assert_eq!(world.segments().len(), 4);
    all
}

/// Every way to read the files ends with an error of this kind, after what is good.
#[track_caller]
fn reading_fails(world: &World, good: usize, kind: ErrorKind) {
    let (found, error) = world.read_files();
    let error = error.expect("the end must not be silent");
    assert_eq!((found.len(), error.kind()), (good, kind), "{error}");
}

fn damage_in_an_old_segment_is_never_a_silent_end(world: &World) {
    let all = closed(world);
    let whole = world.files();
    // In a header, a payload, a padding, a checksum, a length, a type.
    for offset in [4096 + 328, 4096 + 328 + 50, 4096 + 2 * 328 - 1, 4096 + 332, 4096 + 336, 4096 + 340, 4096 + 343] {
        for (index, name) in [FIRST, SECOND, THIRD].into_iter().enumerate() {
            world.damage(name, offset);
            let good = index * 12 + 1;
            reading_fails(world, good, ErrorKind::Corruption);
            let reader = world.log_reader();
            assert_eq!(reader.read(all[good]).unwrap_err().kind(), ErrorKind::Corruption);
            match reader.read(all[good + 1]) {
                Ok(record) => assert_eq!(record.lsn, all[good + 1]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{error}"),
            }
            world.write(name, &whole[name]);
        }
    }
    assert_eq!(world.read_files().0.len(), 40);
}

fn a_missing_middle_segment_is_corruption(world: &World) {
    closed(world);
    world.remove(SECOND);
    let error = world.refuses_to_open(ErrorKind::Corruption);
    assert!(error.to_string().contains(SECOND) || error.segment() == Some(2), "{error}");
    reading_fails(world, 12, ErrorKind::Corruption);
}

fn a_missing_first_segment_is_corruption(world: &World) {
    closed(world);
    world.remove(FIRST);
    world.refuses_to_open(ErrorKind::Corruption);
    reading_fails(world, 0, ErrorKind::Corruption);
}

fn a_last_segment_deleted_after_a_clean_close_is_corruption(world: &World) {
    closed(world);
    world.remove("0000000000000004.wal");
    world.refuses_to_open(ErrorKind::Corruption);
    reading_fails(world, 36, ErrorKind::Corruption);
}

fn two_last_segments_deleted_after_a_clean_close_are_corruption(world: &World) {
    closed(world);
    world.remove("0000000000000004.wal");
    world.remove(THIRD);
    world.refuses_to_open(ErrorKind::Corruption);
    reading_fails(world, 24, ErrorKind::Corruption);
}

fn swapped_segments_are_corruption(world: &World) {
    closed(world);
    let (second, third) = (world.read(SECOND), world.read(THIRD));
    world.write(SECOND, &third);
    world.write(THIRD, &second);
    world.refuses_to_open(ErrorKind::Corruption);
    reading_fails(world, 12, ErrorKind::Corruption);
}

fn a_segment_of_another_log_is_corruption(world: &World) {
    closed(world);
    let other = World::simulated();
    closed(&other);
    for (good, name) in [(0, FIRST), (12, SECOND), (36, "0000000000000004.wal")] {
        let own = world.read(name);
        world.write(name, &other.read(name));
        world.refuses_to_open(ErrorKind::Corruption);
        reading_fails(world, good, ErrorKind::Corruption);
        world.write(name, &own);
    }
    world.open(small()).close().unwrap();
}

fn a_segment_of_an_earlier_state_of_the_log_is_corruption(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    let old = world.read(SECOND);
    log.truncate_after(all[14]).unwrap();
    fill(&log, 30);
    log.close().unwrap();
    world.write(SECOND, &old);
    world.refuses_to_open(ErrorKind::Corruption);
    let (found, error) = world.read_files();
    assert!(error.is_some(), "{} records and a silent end", found.len());
}

fn a_deleted_control_file_is_corruption(world: &World) {
    closed(world);
    world.remove("control");
    world.refuses_to_open(ErrorKind::Corruption);
    reading_fails(world, 0, ErrorKind::Corruption);
}

fn a_control_file_of_another_log_is_corruption(world: &World) {
    closed(world);
    let other = World::simulated();
    closed(&other);
    world.write("control", &other.read("control"));
    world.refuses_to_open(ErrorKind::Corruption);
    reading_fails(world, 0, ErrorKind::Corruption);
}

fn a_zeroed_header_is_corruption(world: &World) {
    closed(world);
    for (good, name) in [(0, FIRST), (12, SECOND), (36, "0000000000000004.wal")] {
        let whole = world.read(name);
        let mut bytes = whole.clone();
        bytes[..4096].fill(0);
        world.write(name, &bytes);
        world.refuses_to_open(ErrorKind::Corruption);
        reading_fails(world, good, ErrorKind::Corruption);
        world.write(name, &whole);
    }
}

/// Changes a field of a file's first block and makes its checksum right.
fn change_block(world: &World, name: &str, offset: usize, value: u32) {
    let mut bytes = world.read(name);
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    reseal(&mut bytes[..4096]);
    world.write(name, &bytes);
}

fn a_newer_segment_is_an_unsupported_version(world: &World) {
    closed(world);
    for (good, name) in [(0, FIRST), (12, SECOND), (36, "0000000000000004.wal")] {
        let whole = world.read(name);
        change_block(world, name, 8, 2);
        world.refuses_to_open(ErrorKind::UnsupportedVersion);
        reading_fails(world, good, ErrorKind::UnsupportedVersion);
        world.write(name, &whole);
    }
}

fn a_newer_control_file_is_an_unsupported_version(world: &World) {
    closed(world);
    change_block(world, "control", 8, 2);
    world.refuses_to_open(ErrorKind::UnsupportedVersion);
    reading_fails(world, 0, ErrorKind::UnsupportedVersion);
}

fn a_required_feature_nobody_knows_is_an_unsupported_version(world: &World) {
    closed(world);
    let control = world.read("control");
    change_block(world, "control", 12, 1);
    world.refuses_to_open(ErrorKind::UnsupportedVersion);
    world.write("control", &control);
    change_block(world, SECOND, 12, 0x8000_0000);
    world.refuses_to_open(ErrorKind::UnsupportedVersion);
    reading_fails(world, 12, ErrorKind::UnsupportedVersion);
}

fn a_damaged_version_is_corruption(world: &World) {
    closed(world);
    for name in [FIRST, SECOND, "0000000000000004.wal", "control"] {
        let whole = world.read(name);
        world.damage(name, 8);
        world.refuses_to_open(ErrorKind::Corruption);
        world.write(name, &whole);
    }
}

fn a_changed_payload_is_named_with_its_place(world: &World) {
    let all = closed(world);
    world.damage(SECOND, 4096 + 3 * 328 + 100);
    let error = world.refuses_to_open(ErrorKind::Corruption);
    assert_eq!((error.segment(), error.offset()), (Some(2), Some(4096 + 3 * 328)), "{error}");
    assert_eq!((error.lsn(), error.valid_records_after()), (Some(all[15]), Some(8)), "{error}");
    assert!(error.path().is_some() && error.is_corruption());
    assert!(error.to_string().contains("walctl verify"), "{error}");
}

fn a_reader_that_met_damage_stays_there(world: &World) {
    closed(world);
    world.damage(SECOND, 4096 + 100);
    let mut reader = world.log_reader().reader(Lsn::ZERO).unwrap();
    for _ in 0..12 {
        reader.next_record().unwrap().unwrap();
    }
    for _ in 0..3 {
        assert_eq!(reader.next_record().unwrap_err().kind(), ErrorKind::Corruption);
    }
}

fn a_reader_from_behind_damage_shows_nothing_in_front_of_where_it_begins(world: &World) {
    let all = closed(world);
    world.damage(SECOND, 4096 + 2 * 328 + 100);
    // In the second segment, two records in front of the damage and more behind it.
    let mut reader = world.log_reader().reader(all[18]).unwrap();
    for _ in 0..2 {
        assert_eq!(reader.next_record().unwrap_err().kind(), ErrorKind::Corruption);
        assert_eq!(reader.position_lsn(), all[18]);
    }
}

fn everything_gone_but_the_lock_is_a_new_log(world: &World) {
    closed(world);
    for name in world.names().iter().filter(|name| *name != "lock") {
        world.remove(name);
    }
    let log = world.open(small());
    assert!(records(&log).is_empty());
    log.close().unwrap();
}
