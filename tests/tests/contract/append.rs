//! Appending: modes, durability, sizes, types, batches, LSNs.

use wal::{AppendOptions, Batch, Config, Durability, ErrorKind, Lsn, RecordType, SyncMode};

use crate::world::{
    FRAME, ROOM, World, fill, kind, lazy_batch, lsns, modes, payload, payloads, records, small, small_with,
};

on_both_file_systems! {
    an_append_in_sync_mode_returns_when_its_record_is_durable,
    an_append_in_batch_and_none_mode_returns_when_its_record_is_written,
    one_append_may_ask_for_more_than_the_mode_gives,
    one_append_may_ask_for_less_than_the_mode_gives,
    a_batch_may_ask_for_more_than_the_mode_gives,
    everything_appended_is_there_after_close_and_reopen_in_every_mode,
    an_empty_payload_is_a_record,
    the_largest_record_fits_a_segment,
    a_record_too_large_is_refused_with_the_limit,
    the_largest_batch_fits_a_segment,
    a_batch_too_large_is_refused_as_a_whole,
    an_empty_batch_is_invalid,
    a_batch_has_consecutive_records_in_one_segment,
    record_types_come_back_as_they_were_given,
    lsns_are_multiples_of_8_increase_and_start_at_4096,
    the_next_lsn_is_what_the_next_record_gets,
    an_lsn_measures_distance_in_bytes,
    the_first_lsn_can_be_chosen,
    lsns_end_below_2_to_the_63,
    a_log_that_has_no_lsn_left_can_be_read_and_reopened,
    records_of_all_sizes_come_back_byte_for_byte,
}

#[test]
fn record_types_end_at_3fff() {
    assert_eq!(RecordType::MAX, 0x3FFF);
    assert!(RecordType::new(0x3FFF).is_some());
    assert!(RecordType::new(0x4000).is_none());
    assert!(RecordType::new(u16::MAX).is_none());
}

fn an_append_in_sync_mode_returns_when_its_record_is_durable(world: &World) {
    for direct_io in [true, false] {
        let log = world.open(Config { direct_io, ..small() });
        for number in 0..30 {
            let lsn = log.append(&payload(number, 500)).unwrap();
            assert!(log.durable_lsn() > lsn);
            assert_eq!(log.durable_lsn(), log.written_lsn());
            assert_eq!(log.read(lsn).unwrap().payload, payload(number, 500));
        }
        log.close().unwrap();
    }
}

fn an_append_in_batch_and_none_mode_returns_when_its_record_is_written(world: &World) {
    for mode in [lazy_batch(), SyncMode::None] {
        let log = world.open(Config { sync_mode: mode, ..Config::default() });
        let durable = log.durable_lsn();
        let lsn = log.append(b"written").unwrap();
        assert!(log.written_lsn() > lsn);
        assert_eq!(log.durable_lsn(), durable, "nobody asked for a sync");
        log.close().unwrap();
    }
}

fn one_append_may_ask_for_more_than_the_mode_gives(world: &World) {
    for mode in [lazy_batch(), SyncMode::None] {
        let log = world.open(Config::with_mode(mode));
        let before = log.append(b"written").unwrap();
        let lsn = log.append_with(b"durable", AppendOptions::new().durability(Durability::Durable)).unwrap();
        assert!(log.durable_lsn() > lsn && lsn > before, "the record and all before it are synced");
        log.close().unwrap();
    }
}

fn one_append_may_ask_for_less_than_the_mode_gives(world: &World) {
    let log = world.open(Config { direct_io: false, ..small() });
    let lsn = log.append_with(b"written", AppendOptions::new().durability(Durability::Written)).unwrap();
    assert!(log.written_lsn() > lsn);
    let next = log.append(b"durable").unwrap();
    assert!(log.durable_lsn() > next);
    log.close().unwrap();
}

fn a_batch_may_ask_for_more_than_the_mode_gives(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut batch = Batch::new();
    batch.push(b"one").push(b"two");
    let lsns = log.append_all(&batch, AppendOptions::new().durability(Durability::Durable)).unwrap();
    assert!(log.durable_lsn() >= lsns.end);
    log.close().unwrap();
}

fn everything_appended_is_there_after_close_and_reopen_in_every_mode(world: &World) {
    let mut expected = Vec::new();
    for mode in modes() {
        let log = world.open(small_with(mode));
        fill(&log, 40);
        expected.extend((0..40).map(|number| payload(number, 300)));
        log.close().unwrap();
        let log = world.open(small_with(mode));
        assert_eq!(payloads(&log), expected);
        log.close().unwrap();
    }
}

fn an_empty_payload_is_a_record(world: &World) {
    let log = world.open(small());
    let empty = log.append(b"").unwrap();
    let next = log.append(b"").unwrap();
    assert_eq!(next.distance_from(empty), FRAME);
    assert_eq!(payloads(&log), [b"", b""]);
    log.close().unwrap();
    assert_eq!(world.read_files().0.len(), 2);
}

fn the_largest_record_fits_a_segment(world: &World) {
    let log = world.open(small());
    let largest = payload(1, (ROOM - FRAME) as usize);
    let lsns_before = [log.append(b"before").unwrap(), log.append(&largest).unwrap(), log.append(&largest).unwrap()];
    assert_eq!(lsns(&log), lsns_before);
    assert_eq!(payloads(&log), [b"before".to_vec(), largest.clone(), largest]);
    log.close().unwrap();
}

fn a_record_too_large_is_refused_with_the_limit(world: &World) {
    let log = world.open(small());
    let next = log.next_lsn();
    let error = log.append(&payload(1, (ROOM - FRAME) as usize + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("segment_bytes_max"), "{error}");
    assert!(error.to_string().contains(&ROOM.to_string()), "{error}");
    assert_eq!(kind(log.submit(&payload(1, ROOM as usize))), ErrorKind::TooLarge);
    assert_eq!(log.next_lsn(), next, "no LSN is spent");
    log.append(b"small").unwrap();
    assert_eq!(payloads(&log), [b"small"]);
    log.close().unwrap();
}

fn the_largest_batch_fits_a_segment(world: &World) {
    let log = world.open(small());
    log.append(b"before").unwrap();
    let one = payload(1, (ROOM / 4 - FRAME) as usize);
    let lsns = log.append_batch(&[&one, &one, &one, &one]).unwrap();
    assert_eq!(lsns.end.distance_from(lsns.first), ROOM);
    let segments: Vec<u64> = records(&log).iter().map(|record| record.segment).collect();
    assert_eq!(segments, [1, 2, 2, 2, 2]);
    log.close().unwrap();
}

fn a_batch_too_large_is_refused_as_a_whole(world: &World) {
    let log = world.open(small());
    let one = payload(1, (ROOM / 4 - FRAME) as usize);
    let error = log.append_batch(&[&one[..], &one, &one, &one, b""]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("segment_bytes_max"), "{error}");
    assert!(records(&log).is_empty());
    log.append_batch(&[&one[..], &one]).unwrap();
    assert_eq!(records(&log).len(), 2);
    log.close().unwrap();
}

fn an_empty_batch_is_invalid(world: &World) {
    let log = world.open(small());
    assert_eq!(kind(log.append_batch::<&[u8]>(&[])), ErrorKind::Invalid);
    assert_eq!(kind(log.append_all(&Batch::new(), AppendOptions::new())), ErrorKind::Invalid);
    assert_eq!(kind(log.submit_all(&Batch::new(), AppendOptions::new())), ErrorKind::Invalid);
    assert_eq!(log.next_lsn(), Lsn::FIRST);
    log.close().unwrap();
}

fn a_batch_has_consecutive_records_in_one_segment(world: &World) {
    let log = world.open(small());
    for round in 0..20 {
        let parts: Vec<Vec<u8>> = (0..5).map(|part| payload(round * 5 + part, 100)).collect();
        let place = log.append_batch(&parts).unwrap();
        let mut reader = log.reader(place.first).unwrap();
        let mut segment = None;
        for (index, part) in parts.iter().enumerate() {
            let record = reader.next_record().unwrap().unwrap();
            assert_eq!(record.payload, part);
            assert_eq!(record.continues, index < 4, "the flag tells that the batch goes on");
            assert_eq!(record.segment, *segment.get_or_insert(record.segment));
            if index == 4 {
                assert_eq!((record.lsn, record.end), (place.last, place.end));
            }
        }
    }
    assert!(log.stats().rotations > 0);
    log.close().unwrap();
}

fn record_types_come_back_as_they_were_given(world: &World) {
    let log = world.open(small());
    let types: Vec<RecordType> = [0, 1, 77, 0x3FFF].into_iter().filter_map(RecordType::new).collect();
    let types: Vec<RecordType> = types.iter().flat_map(|kind| [*kind, kind.ignorable()]).collect();
    for record_type in &types {
        log.append_with(b"single", AppendOptions::new().record_type(*record_type)).unwrap();
    }
    let mut batch = Batch::new();
    for record_type in &types {
        batch.push_typed(*record_type, b"in a batch");
    }
    assert_eq!((batch.len(), batch.is_empty()), (types.len(), false));
    log.append_all(&batch, AppendOptions::new().record_type(RecordType::new(9).unwrap())).unwrap();
    log.close().unwrap();
    let (found, end) = world.read_files();
    assert!(end.is_none());
    let found: Vec<RecordType> = found.iter().map(|record| record.record_type).collect();
    assert_eq!(found, [types.clone(), types].concat());
    assert!(found[1].is_ignorable() && !found[0].is_ignorable());
    assert_eq!(found[7].get(), 0x3FFF);
}

fn lsns_are_multiples_of_8_increase_and_start_at_4096(world: &World) {
    let log = world.open(small());
    let lsns: Vec<Lsn> = (0..200).map(|number| log.append(&payload(number, number % 61)).unwrap()).collect();
    assert_eq!(lsns[0].get(), 4096);
    assert!(lsns.iter().all(|lsn| lsn.get() % 8 == 0));
    assert!(lsns.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(log.stats().rotations > 0);
    log.close().unwrap();
}

fn the_next_lsn_is_what_the_next_record_gets(world: &World) {
    let log = world.open(small());
    for number in 0..50 {
        let next = log.next_lsn();
        assert_eq!(log.append(&payload(number, 200)).unwrap(), next);
    }
    log.close().unwrap();
}

fn an_lsn_measures_distance_in_bytes(world: &World) {
    let log = world.open(small());
    let lsns: Vec<Lsn> = (0..17).map(|bytes| log.append(&payload(1, bytes)).unwrap()).collect();
    for (bytes, pair) in lsns.windows(2).enumerate() {
        assert_eq!(pair[1].distance_from(pair[0]), FRAME + (bytes as u64).next_multiple_of(8));
        assert_eq!(pair[0].distance_from(pair[1]), 0);
    }
    log.close().unwrap();
}

fn the_first_lsn_can_be_chosen(world: &World) {
    let first = Lsn::new(1 << 40);
    let log = world.open(Config { first_lsn: first, ..small() });
    assert_eq!(log.start_lsn(), first);
    assert_eq!(log.append(b"first").unwrap(), first);
    log.close().unwrap();
    let log = world.open(small());
    assert_eq!(lsns(&log), [first], "the setting counts when the log is created");
    assert!(log.append(b"second").unwrap() > first);
    log.close().unwrap();
}

fn lsns_end_below_2_to_the_63(world: &World) {
    let log = world.open(Config { first_lsn: Lsn::new((1 << 63) - 2 * ROOM), ..small() });
    let mut count = 0;
    let error = loop {
        match log.append(&payload(count, 1000)) {
            Ok(lsn) => assert!(lsn < Lsn::LIMIT),
            Err(error) => break error,
        }
        count += 1;
    };
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(count >= 6, "two segments have room for {count} records");
    assert_eq!(kind(log.append(&payload(0, 3000))), ErrorKind::Exhausted, "it stays so");
    assert_eq!(payloads(&log), (0..count).map(|number| payload(number, 1000)).collect::<Vec<_>>());
    log.close().unwrap();
}

fn a_log_that_has_no_lsn_left_can_be_read_and_reopened(world: &World) {
    let last = Lsn::new((1 << 63) - 4096);
    let log = world.open(Config { first_lsn: last, ..Config::default() });
    assert_eq!(log.append(&payload(1, 4000)).unwrap(), last);
    assert_eq!(kind(log.append(&payload(1, 4000))), ErrorKind::Exhausted);
    log.close().unwrap();
    let log = world.open(Config::default());
    assert_eq!(payloads(&log), [payload(1, 4000)]);
    assert_eq!(kind(log.append(&payload(1, 4000))), ErrorKind::Exhausted);
    log.close().unwrap();
}

fn records_of_all_sizes_come_back_byte_for_byte(world: &World) {
    let config = Config { segment_bytes_max: 64 << 10, ..Config::with_mode(lazy_batch()) };
    let log = world.open(config);
    let sizes: Vec<usize> = (0..200).map(|step: usize| (step * step * 7919) % 30_011).chain(0..40).collect();
    for (number, bytes) in sizes.iter().enumerate() {
        log.append(&payload(number, *bytes)).unwrap();
    }
    log.flush().unwrap();
    let found = payloads(&log);
    assert_eq!(found.len(), sizes.len());
    for (number, bytes) in sizes.iter().enumerate() {
        assert!(found[number] == payload(number, *bytes), "record {number} of {bytes} bytes");
    }
    log.close().unwrap();
}
