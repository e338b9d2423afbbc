//! Where a test runs: a directory of the operating system, or one of the simulated file system.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tempfile::TempDir;
use wal::fs::sim::SimFs;
use wal::fs::{FileSystem, RealFileSystem};
use wal::{Background, Config, Error, ErrorKind, LogReader, Lsn, Record, Result, SyncMode, Wal};
use wal_tests::watchdog::Watchdog;

/// Bytes of a segment in most tests: the smallest there is.
pub const SEGMENT: u64 = 8 << 10;
/// Bytes of frames that such a segment has room for.
pub const ROOM: u64 = SEGMENT - 4096;
/// Bytes of a frame in front of its payload.
pub const FRAME: u64 = 24;
/// Long enough that nothing that is asked to wait for it ever reaches it.
pub const LONG: Duration = Duration::from_secs(3000);

/// Held while a test starts another process, until that has given up what it inherited.
pub static SPAWNING: Mutex<()> = Mutex::new(());

/// Runs each named function, which takes a `&World`, on both file systems.
macro_rules! on_both_file_systems {
    ($($name:ident,)*) => { $(
        mod $name {
            #[test]
            fn real() {
                $crate::world::guarded(stringify!($name), || super::$name(&$crate::world::World::real()));
            }

            #[test]
            fn simulated() {
                $crate::world::guarded(stringify!($name), || super::$name(&$crate::world::World::simulated()));
            }
        }
    )* };
}

/// A test that hangs ends, with its name.
pub fn guarded(name: &str, test: impl FnOnce()) {
    let watchdog = Watchdog::start();
    watchdog.beat(|| name.to_owned());
    test();
}

#[derive(Debug)]
enum Kind {
    Real,
    Simulated(SimFs),
}

/// A file system and the path of a log in it. The directory is not there yet.
#[derive(Debug)]
pub struct World {
    kind: Kind,
    /// Removes the directory in the end.
    _dir: Option<TempDir>,
    pub fs: Arc<dyn FileSystem>,
    pub path: PathBuf,
}

impl World {
    pub fn real() -> World {
        let dir = TempDir::new().expect("a directory for the test");
        let path = dir.path().join("log");
        World { kind: Kind::Real, _dir: Some(dir), fs: Arc::new(RealFileSystem), path }
    }

    pub fn simulated() -> World {
        World::on(SimFs::new(1))
    }

    /// The log of a simulated file system.
    pub fn on(sim: SimFs) -> World {
        World { fs: Arc::new(sim.clone()), kind: Kind::Simulated(sim), _dir: None, path: PathBuf::from("/log") }
    }

    /// The simulated file system.
    pub fn sim(&self) -> &SimFs {
        match &self.kind {
            Kind::Simulated(sim) => sim,
            Kind::Real => panic!("only a simulated file system can do that"),
        }
    }

    /// Opens the log.
    pub fn try_open(&self, config: Config) -> Result<Wal> {
        let open = |config| Wal::opener(config).file_system(Arc::clone(&self.fs)).open(&self.path);
        match open(config.clone()) {
            Err(error) if error.kind() == ErrorKind::InUse => {
                // A process that another test is just starting may have inherited the lock of a log that is closed by now.
                drop(SPAWNING.lock().unwrap_or_else(PoisonError::into_inner));
                open(config)
            }
            result => result,
        }
    }

    /// Opens the log, which must work.
    #[track_caller]
    pub fn open(&self, config: Config) -> Wal {
        self.try_open(config).expect("the log opens")
    }

    /// Opens the log for reading, which must work.
    #[track_caller]
    pub fn log_reader(&self) -> LogReader {
        self.try_log_reader().expect("the log opens for reading")
    }

    pub fn try_log_reader(&self) -> Result<LogReader> {
        LogReader::open_with(&*self.fs, &self.path)
    }

    /// What a reader of the files sees: the records, and the error that ended them.
    pub fn read_files(&self) -> (Vec<Record>, Option<Error>) {
        match self.try_log_reader().and_then(|reader| reader.reader(Lsn::ZERO)) {
            Ok(reader) => read_on(reader),
            Err(error) => (Vec::new(), Some(error)),
        }
    }

    pub fn is_simulated(&self) -> bool {
        matches!(self.kind, Kind::Simulated(_))
    }

    pub fn has_dir(&self) -> bool {
        match &self.kind {
            Kind::Real => self.path.exists(),
            Kind::Simulated(sim) => sim.names(&self.path).is_ok(),
        }
    }

    pub fn make_dir(&self) {
        self.fs.create_dir(&self.path).expect("the directory can be made");
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.kind {
            Kind::Real => std::fs::read_dir(&self.path)
                .expect("the directory is there")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect(),
            Kind::Simulated(sim) => sim.names(&self.path).expect("the directory is there"),
        };
        names.sort();
        names
    }

    /// The names of the segments.
    pub fn segments(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(".wal")).collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path.join(name);
        match &self.kind {
            Kind::Real => std::fs::read(path),
            Kind::Simulated(sim) => sim.read_file(path),
        }
        .expect("the file is there")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path.join(name);
        match &self.kind {
            Kind::Real => std::fs::write(path, bytes),
            Kind::Simulated(sim) => sim.write_file(path, bytes),
        }
        .expect("the file can be written");
    }

    pub fn remove(&self, name: &str) {
        let path = self.path.join(name);
        match &self.kind {
            Kind::Real => std::fs::remove_file(path),
            Kind::Simulated(sim) => sim.remove_file(path),
        }
        .expect("the file is there");
    }

    /// Changes one byte of a file.
    pub fn damage(&self, name: &str, offset: u64) {
        let mut bytes = self.read(name);
        bytes[offset as usize] ^= 0x10;
        self.write(name, &bytes);
    }

    /// All files and their bytes.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.names().into_iter().map(|name| (name.clone(), self.read(&name))).collect()
    }

    /// Opening fails like this, and so does reading the files unless that ends well before; and nothing is changed by either.
    #[track_caller]
    pub fn refuses_to_open(&self, kind: ErrorKind) -> Error {
        let before = self.files();
        let error = self.try_open(small()).expect_err("the log must not open");
        assert_eq!(error.kind(), kind, "{error}");
        let (_, end) = self.read_files();
        drop(end);
        assert!(before == self.files(), "an open that failed has changed something: {error}");
        error
    }
}

/// Settings with the smallest segments.
pub fn small() -> Config {
    Config { segment_bytes_max: SEGMENT, ..Config::default() }
}

/// Small segments, and no thread that prepares the next one: between two calls no file changes.
pub fn still() -> Config {
    Config { background: Background::Inline, ..small() }
}

pub fn small_with(sync_mode: SyncMode) -> Config {
    Config { sync_mode, ..small() }
}

/// The three modes; nothing is synced in them by itself while a test runs, except by `sync`.
pub fn modes() -> [SyncMode; 3] {
    [SyncMode::Sync, lazy_batch(), SyncMode::None]
}

/// `batch` that syncs only when asked.
pub fn lazy_batch() -> SyncMode {
    SyncMode::Batch { delay: LONG, bytes: 1 << 30 }
}

/// A payload that differs for each number.
pub fn payload(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number * 31 + at * 7) as u8).collect()
}

/// Appends numbered records of some hundred bytes, a dozen to a segment, and returns their LSNs.
#[track_caller]
pub fn fill(log: &Wal, count: usize) -> Vec<Lsn> {
    (0..count).map(|number| log.append(&payload(number, 300)).expect("an append works")).collect()
}

/// The records of a live log, durable ones only.
#[track_caller]
pub fn records(log: &Wal) -> Vec<Record> {
    log.reader(Lsn::ZERO).expect("a reader").collect::<Result<Vec<Record>>>().expect("all records can be read")
}

#[track_caller]
pub fn lsns(log: &Wal) -> Vec<Lsn> {
    records(log).iter().map(|record| record.lsn).collect()
}

#[track_caller]
pub fn payloads(log: &Wal) -> Vec<Vec<u8>> {
    records(log).into_iter().map(|record| record.payload).collect()
}

/// Reads until the end or the first error.
pub fn read_on(mut reader: wal::Reader) -> (Vec<Record>, Option<Error>) {
    let mut found = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => found.push(record.to_record()),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

#[track_caller]
pub fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => error.kind(),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// CRC32C of RFC 3720, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

/// Makes the checksum of a block (a segment header, the control file) right again.
pub fn reseal(block: &mut [u8]) {
    let checksum = crc32c(&block[..4092]);
    block[4092..4096].copy_from_slice(&checksum.to_le_bytes());
}
