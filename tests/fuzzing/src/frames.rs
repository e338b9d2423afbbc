//! Frames of one open segment, read by the log and by a second reading of the format.

use std::sync::OnceLock;

use wal::fs::sim::SimFs;
use wal::{ErrorKind, LogReader, Lsn};

use crate::format::{FIRST_LSN, FRAME, Fields, Found, HEADER, PADDING, Place, frame_at, header_at, place_of};
use crate::input::Input;
use crate::judge::{self, DIR, Held, SEGMENT_BYTES, config, held};

const FIRST_SEGMENT: &str = "/log/0000000000000001.wal";

/// An open log whose segment has no frame yet.
fn template() -> &'static (SimFs, Vec<u8>) {
    static TEMPLATE: OnceLock<(SimFs, Vec<u8>)> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let fs = SimFs::new(1);
        let log = judge::open(&fs, config()).expect("a new log");
        let killed = fs.kill();
        drop(log);
        let segment = killed.read_file(FIRST_SEGMENT).expect("its first segment");
        assert_eq!(segment.len(), SEGMENT_BYTES);
        (killed, segment)
    })
}

/// Writes what the bytes say behind each other, as long as there is room.
fn write_frames(input: &mut Input<'_>, file: &mut [u8], place: Place) {
    let mut at = HEADER;
    while !input.is_empty() && at + 8 <= file.len() {
        let lsn = FIRST_LSN + (at - HEADER) as u64;
        let written = match input.byte() % 16 {
            0 => input.bytes(64).to_vec(),
            1 => vec![0; 8 * (1 + input.below(16))],
            2 => frame(input, Place { segment: place.segment + 1, ..place }, lsn),
            3 => {
                let epoch = place.epoch ^ u64::from(input.byte());
                frame(input, Place { epoch, ..place }, lsn)
            }
            4 => {
                let log_id = [input.byte(); 16];
                frame(input, Place { log_id, ..place }, lsn)
            }
            5 => {
                let elsewhere = lsn.wrapping_add(input.number());
                frame(input, place, elsewhere)
            }
            6 => nested(input, place, lsn),
            7 => wrong_fields(input, place, lsn),
            8 => damaged(input, place, lsn),
            9 => padding(input, place, lsn),
            _ => frame(input, place, lsn),
        };
        let length = written.len().min(file.len() - at);
        file[at..at + length].copy_from_slice(&written[..length]);
        at = (at + length).next_multiple_of(8);
    }
}

fn padded(header: [u8; FRAME], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&header[..], payload].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// A witness as the log writes it, most of the time.
fn witness(input: &mut Input<'_>, lsn: u64) -> u64 {
    match input.byte() % 16 {
        0 => input.number(),
        1 => lsn,
        2 => lsn + 8 * u64::from(input.byte()),
        _ => FIRST_LSN,
    }
}

/// A frame that is right at its place.
fn frame(input: &mut Input<'_>, place: Place, lsn: u64) -> Vec<u8> {
    let choices = input.byte();
    let frame_type = match choices % 8 {
        0 => input.short(),
        1 => 0xC000 | input.short() & 0x3FFF,
        _ => input.short() & 0x3FFF,
    };
    let length = if choices & 8 == 0 { usize::from(input.byte() % 64) } else { input.below(5000) };
    let mut payload = input.bytes(length).to_vec();
    payload.resize(length, choices);
    let witness = witness(input, lsn);
    padded(Fields::of(&payload, frame_type, choices & 0xC0 == 0xC0, witness).header(place, lsn), &payload)
}

/// A record whose payload is a valid frame for the LSN at which it stands.
fn nested(input: &mut Input<'_>, place: Place, lsn: u64) -> Vec<u8> {
    let inner = frame(input, place, lsn + FRAME as u64);
    padded(Fields::of(&inner, 0, false, FIRST_LSN).header(place, lsn), &inner)
}

/// A field that no writer sets so, under a header checksum that is right: among them lengths past everything.
fn wrong_fields(input: &mut Input<'_>, place: Place, lsn: u64) -> Vec<u8> {
    let payload = input.bytes(16);
    let mut fields = Fields::of(payload, 0, false, FIRST_LSN);
    match input.byte() % 5 {
        0 => fields.length = input.number() as u32,
        1 => fields.flags = input.byte(),
        2 => fields.marker = input.byte(),
        3 => fields.payload_checksum ^= 1 << (input.byte() % 32),
        _ => fields.length = u32::MAX - u32::from(input.byte()),
    }
    padded(fields.header(place, lsn), payload)
}

fn damaged(input: &mut Input<'_>, place: Place, lsn: u64) -> Vec<u8> {
    let mut bytes = frame(input, place, lsn);
    let at = input.below(bytes.len());
    bytes[at] ^= 1 << (input.byte() % 8);
    bytes
}

fn padding(input: &mut Input<'_>, place: Place, lsn: u64) -> Vec<u8> {
    let content = vec![input.byte(); usize::from(input.byte())];
    let mut fields = Fields::of(&content, PADDING, false, FIRST_LSN);
    fields.payload_checksum = 0;
    padded(fields.header(place, lsn), &content)
}

/// What the format says of a segment.
#[derive(Debug)]
struct Reading<'a> {
    /// The frames up to where there is none.
    frames: Vec<Found<'a>>,
    stop: u64,
    /// Nobody may be sure to know what stands at the stop.
    is_newer: bool,
    /// Where the unfinished batch begins, if one does.
    batch_start: u64,
    witness: u64,
}

impl Reading<'_> {
    fn new<'a>(file: &'a [u8], place: Place) -> Reading<'a> {
        let mut reading = Reading {
            frames: Vec::new(),
            stop: FIRST_LSN,
            is_newer: false,
            batch_start: FIRST_LSN,
            witness: FIRST_LSN,
        };
        let mut at = HEADER;
        while let Some(found) = frame_at(file, at, place, FIRST_LSN) {
            if found.is_newer() {
                reading.is_newer = true;
                break;
            }
            at = HEADER + (found.end - FIRST_LSN) as usize;
            reading.stop = found.end;
            if !found.continues() {
                reading.batch_start = found.end;
            }
            reading.frames.push(found);
        }
        // What stands at the stop itself is no older than itself, so it cannot speak for what is before it.
        let behind = witnesses_behind(file, at + 8, place);
        let before = reading.frames.iter().map(|found| found.fields.witness);
        reading.witness = before.chain([behind]).fold(FIRST_LSN, u64::max);
        reading
    }

    /// The records that a reader shows.
    fn records(&self) -> Vec<Held> {
        let shown = self.frames.iter().filter(|found| found.lsn < self.batch_start && found.is_record());
        shown.map(|found| (found.lsn, found.fields.frame_type, found.payload.to_vec())).collect()
    }
}

/// The highest witness of what stands behind the first position that has no frame. A header whose checksum is right says what was
/// durable, even if its payload did not reach the disk. What stands inside of a whole frame says nothing.
fn witnesses_behind(file: &[u8], from: usize, place: Place) -> u64 {
    let mut highest = 0;
    let mut at = from;
    while at + FRAME <= file.len() {
        let header = header_at(file, at, place, FIRST_LSN).map(|(_, fields)| fields);
        let frame_bytes = header.map(|fields| (FRAME + fields.length as usize).next_multiple_of(8));
        let fits = frame_bytes.filter(|bytes| at + bytes <= file.len());
        if let (Some(fields), Some(_)) = (header, fits) {
            highest = highest.max(fields.witness);
        }
        let is_whole = frame_at(file, at, place, FIRST_LSN).is_some();
        at += fits.filter(|_| is_whole).unwrap_or(8);
    }
    highest
}

/// Frames that a reader, a survey and an open must take for what the format says that they are.
pub fn frames(data: &[u8]) {
    let (template, segment) = template();
    let mut file = segment.clone();
    let place = place_of(&file);
    write_frames(&mut Input::new(data), &mut file, place);
    let fs = template.kill();
    fs.write_file(FIRST_SEGMENT, &file).expect("the segment is replaced");
    let reading = Reading::new(&file, place);
    let records = reading.records();
    let opened = judge::judge(&fs);

    match &opened {
        Err(error) if reading.is_newer => assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{error}"),
        Ok(_) if reading.is_newer => panic!("a frame of a newer format was passed over"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(
                reading.witness > reading.batch_start,
                "nothing proves that more was durable than {reading:?}: {error}"
            );
        }
        Ok(found) => {
            assert!(
                reading.witness <= reading.stop,
                "what was proven to be durable is gone, and nobody is told: {reading:?}"
            );
            assert_eq!(*found, records, "an open shows what the format says");
        }
    }
    let reader = LogReader::open_with(&fs, DIR).expect("the control file is right");
    let mut seen = Vec::new();
    let mut has_failed = false;
    for record in reader.reader(Lsn::ZERO).expect("from the start") {
        match record {
            Ok(record) => seen.push(held(record)),
            Err(_) => has_failed = true,
        }
    }
    assert!(records.starts_with(&seen), "a reader shows nothing else than the format says");
    assert_eq!(has_failed, opened.is_err(), "a reader ends with an error where an open fails: {opened:?}");
    assert!(has_failed || seen == records, "a reader shows everything");
}
