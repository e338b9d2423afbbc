//! A store that is in use: between any two reads of a look the store may change.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use wal::ErrorKind;
use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};

use super::*;

/// The file system, with something happening before every read.
#[derive(Clone)]
struct Busy {
    happens: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}

#[derive(Debug)]
struct BusyDirectory {
    inner: Arc<dyn Directory>,
    busy: Busy,
}

#[derive(Debug)]
struct BusyFile {
    inner: Arc<dyn File>,
    busy: Busy,
}

/// Looking changes nothing, so it never comes to these.
fn is_only_read<T>() -> io::Result<T> {
    panic!("a look changes nothing")
}

impl FileSystem for Busy {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        is_only_read()
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        let inner = RealFileSystem.open_dir(path)?;
        Ok(Arc::new(BusyDirectory { inner, busy: self.clone() }))
    }
}

impl Directory for BusyDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        assert_eq!(mode, OpenMode::Read, "a look changes nothing");
        (self.busy.happens)();
        Ok(Arc::new(BusyFile { inner: self.inner.open(name, mode)?, busy: self.busy.clone() }))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        is_only_read()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        is_only_read()
    }

    fn sync(&self) -> io::Result<()> {
        is_only_read()
    }

    fn try_lock(&self, _name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        is_only_read()
    }
}

impl File for BusyFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.busy.happens)();
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<usize> {
        is_only_read()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        is_only_read()
    }

    fn sync_data(&self) -> io::Result<()> {
        is_only_read()
    }

    fn sync_all(&self) -> io::Result<()> {
        is_only_read()
    }
}

/// Verifies a store so many times to which `ops` of a hundred reads add an operation, and says how it went: with a verdict or without, and looks.
fn verify_beside(seed: u64, ops: u64, rounds: u32) -> (u32, u32, u32) {
    println!("seed {seed}, {ops} operations in 100 reads");
    let files = Files::new();
    let store = files.open();
    fill(&store);
    let state = Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let random = move |below: u64| {
        let mut state = state.lock();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % below
    };
    let writer = store.clone();
    let happens = move || {
        if random(100) >= ops {
            return;
        }
        let key = key(random(3000) as u32);
        let done = match random(20) {
            0 => writer.checkpoint().map(|_| ()),
            1..=7 => writer.delete(key).map(|_| ()),
            8 => writer.put(key, [2; 9000]),
            _ => writer.put(key, [1; 200]),
        };
        done.expect("the store goes on");
    };
    let busy = Busy { happens: Arc::new(happens) };
    let (mut settled, mut unsettled, mut looks) = (0, 0, 0);
    for _ in 0..rounds {
        match verify(&busy, files.dir(), VerifyOptions::default(), |_| ()) {
            Ok(report) => {
                assert!(!report.is_settled || report.is_sound(), "{report:#?}");
                settled += u32::from(report.is_settled);
                unsettled += u32::from(!report.is_settled);
                looks += report.looks;
            }
            // Checkpoints removed the log under every look.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
                unsettled += 1;
            }
        }
        match show(&busy, files.dir()) {
            Ok(info) => assert!(!info.is_settled || !info.has_damage(), "{info:#?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
        }
    }
    store.close().expect("the store closes");
    assert!(files.verify().is_sound());
    println!("{settled} with a verdict, {unsettled} without, {looks} looks");
    (settled, unsettled, looks)
}

/// Counts the reads, and does something before those that are chosen.
fn busy_at(is_chosen: impl Fn(u64) -> bool + Send + Sync + 'static, act: impl Fn() + Send + Sync + 'static) -> Busy {
    let reads = AtomicU64::new(0);
    let happens = move || {
        if is_chosen(reads.fetch_add(1, Ordering::Relaxed)) {
            act();
        }
    };
    Busy { happens: Arc::new(happens) }
}

#[test]
fn what_is_shown_of_a_store_that_never_rests_proves_nothing() {
    let files = Files::new();
    let store = files.open();
    fill(&store);
    store.checkpoint().expect("a checkpoint works");
    files.damage(|bytes| bytes[100] ^= 1);
    let info = show(&RealFileSystem, files.dir()).expect("the store can be looked at");
    assert!(info.has_damage() && info.is_settled, "nothing changes: {info:#?}");
    let busy = busy_at(|read| read % 40 == 0, move || store.put(key(0), [1; 60]).expect("a put works"));
    let info = show(&busy, files.dir()).expect("the store can be looked at");
    assert!(info.has_damage() && !info.is_settled, "each look met a change: {info:#?}");
}

/// Looks at a store under which, before one of the reads, a checkpoint removes the log that is being read; at twenty places, one look after the
/// other. `look` says whether it came to a verdict.
fn disturbed_once(look: impl Fn(&Busy, &Path) -> bool) {
    let files = Files::new();
    let store = files.open();
    fill(&store);
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    let counts = busy_at(move |read| counted.fetch_max(read, Ordering::Relaxed) > read, || ());
    assert!(look(&counts, &files.dir()), "nothing changes");
    let reads = reads.load(Ordering::Relaxed);
    for at in (0..=reads).step_by(1 + reads as usize / 20) {
        let writer = store.clone();
        let disturb = move || {
            for number in 0..40 {
                writer.put(key(number), [at as u8; 9000]).expect("a put works");
            }
            let report = writer.checkpoint().expect("a checkpoint works").expect("there is something to do");
            assert!(report.truncation.is_some(), "{report:?}");
        };
        assert!(look(&busy_at(move |read| read == at, disturb), &files.dir()), "disturbed before read {at} of {reads}");
    }
}

#[test]
fn a_verification_under_which_a_checkpoint_removed_the_log_begins_again() {
    disturbed_once(|busy, dir| {
        let report = verify(busy, dir, VerifyOptions::default(), |_| ());
        report.unwrap_or_else(|error| panic!("{error}")).is_sound()
    });
}

#[test]
fn a_look_under_which_a_checkpoint_removed_the_log_begins_again() {
    disturbed_once(|busy, dir| {
        let info = show(busy, dir).unwrap_or_else(|error| panic!("{error}"));
        info.is_settled && !info.has_damage()
    });
}

#[test]
fn beside_a_store_that_changes_now_and_then_there_is_a_verdict() {
    let (mut settled, mut looks) = (0, 0);
    for seed in 1..4 {
        let seen = verify_beside(seed, 2, 20);
        settled += seen.0;
        looks += seen.2;
    }
    assert!(settled > 0, "every look met a store that looked damaged");
    assert!(looks > settled, "changes were met, and looked at again");
}

#[test]
fn beside_a_store_that_never_rests_no_damage_is_claimed() {
    for seed in 4..7 {
        verify_beside(seed, 10, 2);
    }
}
