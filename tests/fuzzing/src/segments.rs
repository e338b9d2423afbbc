//! A log of several segments, changed in its headers, frames and control file, with the checksums made right again.

use std::sync::OnceLock;

use wal::fs::sim::SimFs;
use wal::{Batch, Config, Lsn};

use crate::format::{FRAME, Fields, HEADER, base_of, frame_at, place_of, seal_block};
use crate::input::Input;
use crate::judge::{self, config};

/// The files that are changed, the control file first.
pub(crate) const FILES: [&str; 4] =
    ["/log/control", "/log/0000000000000001.wal", "/log/0000000000000002.wal", "/log/0000000000000003.wal"];

/// A log of three segments with a batch, a cut behind it, and its start inside the first: closed, and killed.
pub(crate) fn templates() -> &'static [SimFs; 2] {
    static TEMPLATES: OnceLock<[SimFs; 2]> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let fs = SimFs::new(1);
        let log = judge::open(&fs, Config { recycle_segments_max: 0, ..config() }).expect("a new log");
        let append = |bytes: usize| log.append(&vec![bytes as u8; bytes]).expect("an append");
        let lsns: Vec<Lsn> = [100, 900, 1500, 800, 1200, 700].into_iter().map(append).collect();
        let mut batch = Batch::new();
        batch.push(b"one").push(b"two").push(b"three");
        log.append_all(&batch, wal::AppendOptions::new()).expect("a batch");
        append(300);
        log.truncate_after(lsns[5]).expect("a cut");
        log.truncate_before(lsns[1]).expect("a truncation");
        append(40);
        append(60);
        let killed = fs.kill();
        log.close().expect("a clean close");
        [fs, killed]
    })
}

/// Sets a number in a block to another and makes the checksum of the block right.
fn change_block(input: &mut Input<'_>, file: &mut [u8]) {
    if file.len() < HEADER {
        return;
    }
    let at = 8 * (1 + input.below(15));
    let length = if input.byte() & 1 == 0 { 8 } else { 4 };
    let number = input.number().to_le_bytes();
    file[at..at + length].copy_from_slice(&number[..length]);
    // Without this it is damage, with it a lie.
    if !input.byte().is_multiple_of(8) {
        seal_block(&mut file[..HEADER]);
    }
}

/// Gives a frame another witness, type or flag, under a checksum that is right.
fn change_frame(input: &mut Input<'_>, file: &mut [u8]) {
    if file.len() < HEADER {
        return;
    }
    let (place, base) = (place_of(file), base_of(file));
    let mut at = HEADER;
    let mut chosen = None;
    for _ in 0..=input.byte() % 8 {
        let Some(found) = frame_at(file, at, place, base) else { break };
        chosen = Some((at, found.lsn, found.fields));
        at = HEADER + (found.end - base) as usize;
    }
    let Some((at, lsn, mut fields)) = chosen else { return };
    match input.byte() % 4 {
        0 => fields.witness = input.number(),
        1 => fields.frame_type = input.short(),
        2 => fields.flags ^= 1,
        _ => fields = Fields { length: input.number() as u32, ..fields },
    }
    file[at..at + FRAME].copy_from_slice(&fields.header(place, lsn));
}

/// Changes one file.
pub(crate) fn change(input: &mut Input<'_>, file: &mut Vec<u8>) {
    match input.byte() % 8 {
        0 | 1 => change_block(input, file),
        2 | 3 => change_frame(input, file),
        4 => file.truncate(input.below(file.len().max(1))),
        5 => {
            let at = input.below(file.len().max(1));
            let length = 1 + usize::from(input.byte() % 32);
            let bytes = input.bytes(length);
            let end = (at + bytes.len()).min(file.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
        }
        6 => {
            let at = input.below(file.len().max(1));
            let end = (at + input.below(2000)).min(file.len());
            file[at..end].fill(0);
        }
        _ => file.resize(file.len() + input.below(5000), input.byte()),
    }
}

/// A log with changed files, which must be refused or go on.
pub fn segments(data: &[u8]) {
    let mut input = Input::new(data);
    let fs = templates()[usize::from(input.byte() & 1)].kill();
    for _ in 0..6 {
        if input.is_empty() {
            break;
        }
        let path = FILES[usize::from(input.byte()) % FILES.len()];
        let mut file = fs.read_file(path).expect("it is there");
        change(&mut input, &mut file);
        fs.write_file(path, &file).expect("it is replaced");
    }
    drop(judge::judge(&fs));
}
