//! The engine: a key-value store in one file of entries, each synced before it is acknowledged.
//!
//! It uses [`wal::fs`] and not the log, as an engine of your own would. Six mistakes that real engines made can be
//! switched on.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use wal::fs::{Directory, File, FileSystem, OpenMode};

/// A mistake that the store makes if it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A put is acknowledged before it is synced.
    SyncForgotten,
    /// Directories are never synced, so nobody knows what the names lead to.
    DirectorySyncForgotten,
    /// The new file gets its name before its bytes are synced.
    RenamedBeforeSync,
    /// A sync that failed is tried again, and the second answer is believed.
    SyncRetried,
    /// Entries are taken as they are, whatever their checksum says.
    ChecksumIgnored,
    /// What recovery reads is taken for durable, though it may be in the page cache only.
    RecoveryNotRewritten,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 6] = [
        Bug::SyncForgotten,
        Bug::DirectorySyncForgotten,
        Bug::RenamedBeforeSync,
        Bug::SyncRetried,
        Bug::ChecksumIgnored,
        Bug::RecoveryNotRewritten,
    ];
}

const DIRECTORY: &str = "/store";
const FILE: &str = "entries";
const TEMP: &str = "entries.new";
const HEADER_BYTES: usize = 16;
const MAGIC: u32 = 0x4b56_5331;

/// What is stored.
pub type View = BTreeMap<String, Vec<u8>>;

/// An open store. It has one user at a time.
#[derive(Debug)]
pub struct Store {
    directory: Arc<dyn Directory>,
    file: Arc<dyn File>,
    view: View,
    /// Where the next entry goes.
    end: u64,
    /// Counts the files that the store has had. It is in every checksum, so that no entry of an older file is valid in this one.
    generation: u64,
    /// After a failed write or sync nobody knows what is on the disk, so nothing is acknowledged any more.
    has_failed: bool,
    bug: Option<Bug>,
}

impl Store {
    /// Opens the store, or makes it.
    pub fn open(fs: &dyn FileSystem, bug: Option<Bug>) -> io::Result<Store> {
        let directory = match fs.open_dir(Path::new(DIRECTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs.create_dir(Path::new(DIRECTORY))?;
                fs.open_dir(Path::new(DIRECTORY))?
            }
            opened => opened?,
        };
        if bug != Some(Bug::DirectorySyncForgotten) {
            // Also when the directory is there already: who made it may have died before this line.
            fs.open_dir(Path::new("/"))?.sync()?;
        }
        let mut loaded = Loaded::default();
        match directory.open(FILE, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let file = opened?;
                loaded = Loaded::read(&*file, bug)?;
                if bug == Some(Bug::RecoveryNotRewritten) {
                    file.set_len(loaded.end)?;
                    file.sync_all()?;
                    let Loaded { view, end, generation } = loaded;
                    return Ok(Store { directory, file, view, end, generation, has_failed: false, bug });
                }
            }
        }
        // After a failed sync and the death of the process the page cache shows what the disk has not got, and no sync
        // would write it. Writing it again, into a new file, does.
        let Loaded { view, generation, .. } = loaded;
        let (file, end) = write_file(&*directory, &view, generation + 1, bug)?;
        Ok(Store { directory, file, view, end, generation: generation + 1, has_failed: false, bug })
    }

    /// What is stored.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Stores a value. It is durable when this returns `Ok`; after an error it may be there or not.
    pub fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.guarded(|store| {
            let entry = encode_entry(store.generation, store.end, key, value);
            write_all(&*store.file, &entry, store.end)?;
            if store.bug != Some(Bug::SyncForgotten) {
                sync(&*store.file, store.bug)?;
            }
            store.end += entry.len() as u64;
            store.view.insert(key.to_owned(), value.to_vec());
            Ok(())
        })
    }

    /// Writes a new file that holds the newest values only.
    pub fn compact(&mut self) -> io::Result<()> {
        self.guarded(|store| {
            let (file, end) = write_file(&*store.directory, &store.view, store.generation + 1, store.bug)?;
            (store.file, store.end, store.generation) = (file, end, store.generation + 1);
            Ok(())
        })
    }

    /// One place latches the first failure.
    fn guarded(&mut self, act: impl FnOnce(&mut Store) -> io::Result<()>) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::other("the store has failed before"));
        }
        let result = act(self);
        self.has_failed = result.is_err();
        result
    }
}

/// The one way in which a file is replaced: written under another name, synced, renamed, and the name synced.
fn write_file(
    directory: &dyn Directory,
    view: &View,
    generation: u64,
    bug: Option<Bug>,
) -> io::Result<(Arc<dyn File>, u64)> {
    match directory.remove(TEMP) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = directory.open(TEMP, OpenMode::CreateNew)?;
    let mut bytes = encode_header(generation);
    for (key, value) in view {
        let entry = encode_entry(generation, bytes.len() as u64, key, value);
        bytes.extend(entry);
    }
    write_all(&*file, &bytes, 0)?;
    if bug != Some(Bug::RenamedBeforeSync) {
        sync(&*file, bug)?;
    }
    directory.rename(TEMP, FILE)?;
    if bug != Some(Bug::DirectorySyncForgotten) {
        directory.sync()?;
    }
    Ok((file, bytes.len() as u64))
}

fn sync(file: &dyn File, bug: Option<Bug>) -> io::Result<()> {
    match file.sync_all() {
        Err(_) if bug == Some(Bug::SyncRetried) => file.sync_all(),
        result => result,
    }
}

/// Writes may be short or interrupted.
fn write_all(file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// What a file holds.
#[derive(Debug, Default)]
struct Loaded {
    view: View,
    end: u64,
    generation: u64,
}

impl Loaded {
    /// A file got its name after its header was synced, so a bad header is damage. A bad entry is the end: it was being
    /// written when the machine crashed, or something is damaged that this small store cannot tell from that.
    fn read(file: &dyn File, bug: Option<Bug>) -> io::Result<Loaded> {
        let bytes = read_all(file)?;
        let header = bytes.get(..HEADER_BYTES).filter(|header| {
            let generation = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
            **header == encode_header(generation)
        });
        let Some(header) = header else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the header is damaged"));
        };
        let generation = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
        let mut loaded = Loaded { view: View::new(), end: HEADER_BYTES as u64, generation };
        while let Some((key, value, length)) = decode_entry(generation, loaded.end, &bytes, bug) {
            loaded.view.insert(key, value);
            loaded.end += length;
        }
        Ok(loaded)
    }
}

fn encode_header(generation: u64) -> Vec<u8> {
    let checksum = crc32c::crc32c(&generation.to_le_bytes());
    [&MAGIC.to_le_bytes()[..], &checksum.to_le_bytes(), &generation.to_le_bytes()].concat()
}

/// Checksum, length of the key, length of the value, key, value. The checksum says which file and which place the entry
/// belongs to, so that stale or misplaced bytes are no entry.
fn encode_entry(generation: u64, offset: u64, key: &str, value: &[u8]) -> Vec<u8> {
    let lengths = [(key.len() as u32).to_le_bytes(), (value.len() as u32).to_le_bytes()].concat();
    let body = [&lengths, key.as_bytes(), value].concat();
    [&checksum_of(generation, offset, &body).to_le_bytes()[..], &body].concat()
}

fn checksum_of(generation: u64, offset: u64, body: &[u8]) -> u32 {
    let identity = [generation.to_le_bytes(), offset.to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&identity), body)
}

fn decode_entry(generation: u64, offset: u64, bytes: &[u8], bug: Option<Bug>) -> Option<(String, Vec<u8>, u64)> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let entry = bytes.get(offset as usize..)?;
    let (checksum, key_bytes, value_bytes) =
        (number(entry.get(..4)?), number(entry.get(4..8)?) as usize, number(entry.get(8..12)?) as usize);
    let length = 12_usize.checked_add(key_bytes)?.checked_add(value_bytes)?;
    let body = entry.get(4..length)?;
    let is_valid = checksum == checksum_of(generation, offset, body);
    if !is_valid && (bug != Some(Bug::ChecksumIgnored) || key_bytes == 0) {
        return None;
    }
    let key = String::from_utf8(body[8..8 + key_bytes].to_vec()).ok()?;
    Some((key, body[8 + key_bytes..].to_vec(), length as u64))
}
