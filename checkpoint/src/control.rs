//! The control file: which store this is, and where redo starts. One block, replaced as a whole.

use byteorder::{ByteOrder, LittleEndian as Le};
use parking_lot::Mutex;
use wal::fs::OpenMode;
use wal::fs::durable::LogDir;
use wal::{Error, ErrorKind, LogId, Lsn, Result};

use crate::page::{PAGE_BYTES_MAX, PAGE_BYTES_MIN};

/// Its name.
pub(crate) const CONTROL: &str = "checkpoint";
/// The name of its replacement. Between replacements a file of this name keeps the room that the next one needs on a full disk.
const ROOM: &str = "checkpoint.tmp";
const BLOCK_BYTES: usize = 4096;
const CHECKSUM_AT: usize = BLOCK_BYTES - 4;
const MAGIC: [u8; 8] = *b"\x89WCP\r\n\x1a\n";
const VERSION: u32 = 1;

/// What the control file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    /// The log that the store belongs to, and so the store.
    pub(crate) log_id: [u8; 16],
    /// Size of a page in bytes.
    pub(crate) page_bytes: u32,
    /// Counts the checkpoints.
    pub(crate) sequence: u64,
    /// Redo starts here.
    pub(crate) redo: Lsn,
    /// The LSN of the checkpoint's record; [`Lsn::ZERO`] before the first checkpoint.
    pub(crate) checkpoint_record: Lsn,
}

impl Control {
    fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..8].copy_from_slice(&MAGIC);
        Le::write_u32(&mut block[8..], VERSION);
        block[16..32].copy_from_slice(&self.log_id);
        Le::write_u32(&mut block[32..], self.page_bytes);
        Le::write_u64(&mut block[40..], self.sequence);
        Le::write_u64(&mut block[48..], self.redo.get());
        Le::write_u64(&mut block[56..], self.checkpoint_record.get());
        let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
        Le::write_u32(&mut block[CHECKSUM_AT..], checksum);
        block
    }

    fn decode(block: &[u8]) -> Result<Control, (ErrorKind, String)> {
        let corrupt = |detail: &str| (ErrorKind::Corruption, detail.to_owned());
        if block.len() != BLOCK_BYTES {
            return Err(corrupt("it does not have 4096 bytes"));
        }
        let (expected, found) = (crc32c::crc32c(&block[..CHECKSUM_AT]), Le::read_u32(&block[CHECKSUM_AT..]));
        if expected != found {
            return Err(corrupt(&format!("its checksum is {found:08x} and should be {expected:08x}")));
        }
        let (version, features) = (Le::read_u32(&block[8..]), Le::read_u32(&block[12..]));
        if block[..8] != MAGIC {
            return Err(corrupt("it is no control file of a store"));
        }
        if version != VERSION || features != 0 {
            let detail = format!("its version is {version} with features {features:#x}; this program knows {VERSION}");
            return Err((ErrorKind::UnsupportedVersion, detail));
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&block[16..32]);
        Ok(Control {
            log_id,
            page_bytes: Le::read_u32(&block[32..]),
            sequence: Le::read_u64(&block[40..]),
            redo: Lsn::new(Le::read_u64(&block[48..])),
            checkpoint_record: Lsn::new(Le::read_u64(&block[56..])),
        })
    }

    /// Size of a page in bytes, if it is one that a store can have. What a database with pages of its own says there is its own affair.
    pub(crate) fn page_bytes_of_store(&self, dir: &LogDir) -> Result<usize> {
        let page_bytes = self.page_bytes as usize;
        if page_bytes.is_power_of_two() && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes) {
            return Ok(page_bytes);
        }
        let detail = format!("it names pages of {page_bytes} bytes");
        Err(Error::new(ErrorKind::Corruption, "read control file", detail).at_path(dir.path_of(CONTROL)))
    }
}

/// The control file of an open store.
#[derive(Debug)]
pub(crate) struct ControlFile {
    dir: LogDir,
    /// What the file says. Held while it is replaced, so replacements follow each other.
    current: Mutex<Control>,
}

impl ControlFile {
    /// Reads the control file; `None` if there is none.
    pub(crate) fn read(dir: &LogDir) -> Result<Option<Control>> {
        let Some(file) = dir.find_file(CONTROL, OpenMode::Read)? else { return Ok(None) };
        let mut block = vec![0; BLOCK_BYTES + 1];
        let read = file.read_at(&mut block, 0)?;
        block.truncate(read);
        let control = Control::decode(&block)
            .map_err(|(kind, detail)| Error::new(kind, "read control file", detail).at_path(file.path()))?;
        Ok(Some(control))
    }

    /// The file that says `current` already.
    pub(crate) fn existing(dir: LogDir, current: Control) -> Result<ControlFile> {
        let file = ControlFile { dir, current: Mutex::new(current) };
        file.keep_room()?;
        Ok(file)
    }

    /// Creates the file: from then on there is a store.
    pub(crate) fn create(dir: LogDir, control: Control) -> Result<ControlFile> {
        let file = ControlFile { dir, current: Mutex::new(control) };
        file.replace(|control| control)?;
        Ok(file)
    }

    pub(crate) fn current(&self) -> Control {
        *self.current.lock()
    }

    /// Writes what `change` returns into a temp file, syncs it, renames it over the old file, and syncs the directory.
    pub(crate) fn replace(&self, change: impl FnOnce(Control) -> Control) -> Result<()> {
        let mut current = self.current.lock();
        let next = change(*current);
        let temp = self.dir.write_temp(CONTROL, |file| file.write_at(&next.encode(), 0))?;
        self.dir.commit(temp)?;
        *current = next;
        self.keep_room()
    }

    /// Takes the room for the next replacement, which gives it up first. After a replacement the old file has left as much.
    fn keep_room(&self) -> Result<()> {
        match self.dir.create_filled(ROOM, |file| file.write_zeros(0, BLOCK_BYTES as u64)) {
            Err(error) if !error.is_full() => Err(error),
            _ => Ok(()),
        }
    }

    /// The same store, as it is identified in checksums.
    pub(crate) fn belongs_to(control: &Control, log: LogId) -> bool {
        control.log_id == log.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wal::fs::sim::SimFs;
    use wal::{AppendOptions, Background};

    use super::*;
    use crate::change::CheckpointRecord;
    use crate::{Config, Store};

    const CONTROL_OF_STORE: &str = "/store/checkpoint";

    fn control() -> Control {
        let (redo, checkpoint_record) = (Lsn::new(5000), Lsn::new(6000));
        Control { log_id: [7; 16], page_bytes: 4096, sequence: 3, redo, checkpoint_record }
    }

    /// A block with other bytes at an offset, and the right checksum.
    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut block = control().encode().to_vec();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
        Le::write_u32(&mut block[CHECKSUM_AT..], checksum);
        block
    }

    #[test]
    fn a_control_file_is_one_block_with_a_checksum_of_a_known_version() {
        let whole = control().encode();
        assert_eq!(Control::decode(&whole), Ok(control()));
        let kind = |block: &[u8]| Control::decode(block).expect_err("it is none").0;
        assert_eq!(kind(&whole[..4095]), ErrorKind::Corruption);
        assert_eq!(kind(&[&whole[..], &[0]].concat()), ErrorKind::Corruption, "a byte too many");
        for at in [0, 9, 33, 50, 4000, 4095] {
            let mut flipped = whole;
            flipped[at] ^= 1;
            assert_eq!(kind(&flipped), ErrorKind::Corruption, "byte {at}");
        }
        assert_eq!(kind(&with(0, b"something")), ErrorKind::Corruption);
        assert_eq!(kind(&with(8, &[2])), ErrorKind::UnsupportedVersion);
        assert_eq!(kind(&with(12, &[1])), ErrorKind::UnsupportedVersion, "a feature");
    }

    fn open(fs: &SimFs) -> Result<Store> {
        let mut config = Config::default();
        (config.log.segment_bytes_max, config.log.background) = (512 << 10, Background::Inline);
        Store::opener(config).file_system(Arc::new(fs.clone())).open("/store")
    }

    #[test]
    fn a_control_file_names_a_checkpoint_that_the_log_has() {
        let fs = SimFs::new(1);
        let store = open(&fs).expect("a new store opens");
        store.put("a", "1").expect("a put works");
        store.checkpoint().expect("a checkpoint works");
        let block = fs.read_file(CONTROL_OF_STORE).expect("it is there");
        let found = Control::decode(&block).expect("it is one");
        let end = store.log().next_lsn();
        // What the record of the checkpoint says, in a record of another type.
        let same = CheckpointRecord { redo: found.redo, sequence: found.sequence, pages_written: 1 };
        let other = store.log().append_with(&same.encode(), AppendOptions::new()).expect("an append works");
        let killed = fs.kill();
        drop(store);
        let opens = |control: Control| {
            let fs = killed.kill();
            fs.write_file(CONTROL_OF_STORE, &control.encode()).expect("it can be replaced");
            open(&fs).map(drop)
        };
        let wrong = [
            Control { redo: Lsn::new(found.redo.get() - 1), ..found },
            Control { sequence: found.sequence + 1, ..found },
            Control { checkpoint_record: found.redo, redo: found.redo, ..found },
            Control { checkpoint_record: other, ..found },
            Control { checkpoint_record: Lsn::new(end.get() + (1 << 20)), ..found },
            Control { redo: Lsn::new(end.get() + (1 << 20)), checkpoint_record: Lsn::ZERO, ..found },
        ];
        for control in wrong {
            let error = opens(control).expect_err("the log has no such checkpoint");
            let detail = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{control:?}: {error}");
            assert!(detail.contains("control file"), "{control:?}: {detail}");
        }
        let foreign = opens(Control { log_id: [9; 16], ..found }).expect_err("it belongs to another log");
        assert_eq!(foreign.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_control_file_names_a_size_that_pages_of_a_store_can_have() {
        let fs = SimFs::new(1);
        let store = open(&fs).expect("a new store opens");
        store.put("a", "1").expect("a put works");
        store.close().expect("the store closes");
        let block = fs.read_file(CONTROL_OF_STORE).expect("it is there");
        let found = Control::decode(&block).expect("it is one");
        for page_bytes in [0, 1, 2048, 5000, 64 << 10, u32::MAX] {
            let control = Control { page_bytes, ..found };
            fs.write_file(CONTROL_OF_STORE, &control.encode()).expect("it can be replaced");
            let opened = open(&fs).map(drop).expect_err("no page is like that");
            let shown = crate::inspect::show(&fs, "/store").map(drop).expect_err("no page is like that");
            for error in [opened, shown] {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{page_bytes}: {error}");
                assert!(error.to_string().contains("control file"), "{page_bytes}: {error}");
            }
        }
    }
}
