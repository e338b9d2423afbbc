//! Looking from outside at a log that goes on between any two reads: what moves is not damage.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};
use wal::inspect::{Depth, Outcome, survey};
use wal::{Config, LogReader, Lsn, Wal};

use crate::world::{World, fill, modes, payload, still};

on_both_file_systems! {
    a_survey_of_a_log_that_is_written_between_any_two_reads_finds_no_damage,
    a_reader_of_files_that_are_written_between_any_two_reads_finds_no_damage,
}

/// A file system on which something happens before each read of a file.
#[derive(Clone)]
struct Busy {
    under: Arc<dyn FileSystem>,
    happens: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug)]
struct BusyDirectory(Arc<dyn Directory>, Busy);

#[derive(Debug)]
struct BusyFile(Arc<dyn File>, Busy);

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Busy({:?})", self.under)
    }
}

impl FileSystem for Busy {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.under.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(BusyDirectory(self.under.open_dir(path)?, self.clone())))
    }
}

impl Directory for BusyDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        assert_eq!(mode, OpenMode::Read, "who looks changes nothing");
        Ok(Arc::new(BusyFile(self.0.open(name, mode)?, self.1.clone())))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        panic!("who looks changes nothing")
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        panic!("who looks changes nothing")
    }

    fn sync(&self) -> io::Result<()> {
        panic!("who looks changes nothing")
    }

    fn try_lock(&self, _name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        panic!("who looks takes no lock")
    }
}

impl File for BusyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.1.happens)();
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<usize> {
        panic!("who looks changes nothing")
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        panic!("who looks changes nothing")
    }

    fn sync_data(&self) -> io::Result<()> {
        panic!("who looks changes nothing")
    }

    fn sync_all(&self) -> io::Result<()> {
        panic!("who looks changes nothing")
    }
}

/// How many reads of one look a writer accompanies: whoever writes faster than somebody reads is never seen whole.
const READS: u64 = 40;

/// A log, and a view of its files under which it gets so many records, synced one by one, before each read, as long as the budget of reads is not used up.
fn busy(world: &World, config: Config, records: usize) -> (Wal, Busy, Arc<AtomicU64>) {
    let log = world.open(config);
    fill(&log, 30);
    log.flush().expect("it can be synced");
    let (writer, written) = (log.clone(), AtomicU64::new(30));
    let budget = Arc::new(AtomicU64::new(READS));
    let left = Arc::clone(&budget);
    let happens = move || {
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            return;
        }
        for _ in 0..records {
            let number = written.fetch_add(1, Ordering::Relaxed) as usize;
            writer.append(&payload(number, 300)).expect("there is room");
            writer.flush().expect("it can be synced");
        }
    };
    (log, Busy { under: Arc::clone(&world.fs), happens: Arc::new(happens) }, budget)
}

fn a_survey_of_a_log_that_is_written_between_any_two_reads_finds_no_damage(world: &World) {
    for mode in modes() {
        for records in [1, 5] {
            let (log, fs, budget) = busy(world, Config { sync_mode: mode, ..still() }, records);
            for depth in [Depth::Tail, Depth::Full] {
                for look in 0..10 {
                    log.truncate_before(log.durable_lsn()).expect("nothing holds it");
                    budget.store(READS, Ordering::Relaxed);
                    let found = survey(&fs, &world.path, depth, |_| {}).expect("nothing fails");
                    let is_sound = matches!(found.outcome, Outcome::Kept | Outcome::Cut { .. });
                    assert!(is_sound, "{mode:?}, {records} records, {depth:?}, look {look}: {:?}", found.outcome);
                }
            }
            log.close().expect("it closes");
        }
    }
}

fn a_reader_of_files_that_are_written_between_any_two_reads_finds_no_damage(world: &World) {
    for mode in modes() {
        for records in [1, 5] {
            let (log, fs, _) = busy(world, Config { sync_mode: mode, ..still() }, records);
            let mut reader =
                LogReader::open_with(&fs, &world.path).and_then(|log| log.reader(Lsn::ZERO)).expect("it opens");
            let mut last = Lsn::ZERO;
            // It need not reach the end, which runs away from it.
            for _ in 0..300 {
                match reader.next_record() {
                    Ok(Some(record)) => {
                        assert!(record.lsn > last);
                        last = record.lsn;
                    }
                    Ok(None) => break,
                    Err(error) => panic!("{mode:?}, {records} records, behind LSN {last}: {error}"),
                }
            }
            log.close().expect("it closes");
        }
    }
}
