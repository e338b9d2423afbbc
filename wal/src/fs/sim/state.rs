//! One running machine: the volume, and what belongs to the processes that use it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::{NamePersistence, SyncFailure};
use super::content::{PAGE, SECTOR, pages_of};
use super::fault::{Call, Effect, Fault, errno, os, take_effect};
use super::names::{Dir, DirId, InodeId, Node};
use super::table::Table;
use super::trace::{DIGEST_SEED, Event, Outcome, digest};
use super::volume::{Health, Volume};
use crate::fs::OpenMode;

/// No file is larger, whatever the settings say, so that no arithmetic on offsets overflows.
const FILE_SIZE_MAX: u64 = 1 << 40;

#[derive(Debug)]
struct SimulatedCrash;

impl fmt::Display for SimulatedCrash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("simulated crash")
    }
}

impl std::error::Error for SimulatedCrash {}

pub(super) fn is_simulated_crash(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<SimulatedCrash>())
}

/// An advisory lock on an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileLock {
    Shared,
    Exclusive,
}

/// An open file.
#[derive(Debug)]
struct Descriptor {
    inode: InodeId,
    lock: Option<FileLock>,
    /// The error of a sync that somebody else called and that this descriptor has not heard of.
    error: Option<i32>,
}

/// What a crash or the death of the process ends.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) calls: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) tracing: bool,
    pub(super) trace: Vec<Event>,
    pub(super) crash_points: Option<Vec<(u64, Volume)>>,
    digest: u64,
    fault: Option<Effect>,
    descriptors: Table<u64, Descriptor>,
    next_descriptor: u64,
    locks: BTreeSet<InodeId>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) volume: Volume,
    pub(super) process: Process,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
}

impl std::fmt::Debug for Shared {
    /// Without the files, which would be pages of bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFs").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(volume: Volume) -> Arc<Shared> {
        Arc::new(Shared { state: Mutex::new(State { volume, process: Process::default() }) })
    }

    /// Numbers a call, decides about its fault, runs it, and records it. `run` returns a number for the trace, too.
    pub(super) fn call<T>(
        &self,
        call: &Call<'_>,
        run: impl FnOnce(&mut State, Option<Effect>) -> io::Result<(T, u64)>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        let number = state.process.calls;
        state.process.calls += 1;
        state.process.digest = 0;
        state.process.fault = None;
        state.keep_crash_point(number, call);
        let result = state.run(number, call, run);
        if state.process.tracing {
            let event = Event::new(number, call, Outcome::of(&result), state.process.digest, state.process.fault);
            state.process.trace.push(event);
        }
        result.map(|(value, _)| value)
    }
}

impl State {
    fn keep_crash_point(&mut self, number: u64, call: &Call<'_>) {
        if let Some(points) = &mut self.process.crash_points
            && call.operation.has_effect()
        {
            points.push((number, self.volume.clone()));
        }
    }

    fn run<T>(
        &mut self,
        number: u64,
        call: &Call<'_>,
        run: impl FnOnce(&mut State, Option<Effect>) -> io::Result<(T, u64)>,
    ) -> io::Result<(T, u64)> {
        if self.process.crash_at.is_some_and(|crash| crash <= number) {
            return Err(io::Error::other(SimulatedCrash));
        }
        match self.volume.health {
            Health::ShutDown => return Err(os(errno::EIO)),
            Health::ReadOnly if call.changes => return Err(os(errno::EROFS)),
            _ => {}
        }
        self.process.fault = take_effect(&mut self.process.faults, number, call, &mut self.volume.rng);
        match self.process.fault {
            Some(Effect::Error(errno)) if !call.operation.is_sync() => Err(os(errno)),
            Some(Effect::DoneButError(errno)) => run(self, None).and_then(|_| Err(os(errno))),
            effect => run(self, effect),
        }
    }

    fn note_bytes(&mut self, bytes: &[u8]) {
        if self.process.tracing {
            self.process.digest = digest(DIGEST_SEED, bytes);
        }
    }

    /// Opens a file and returns it with its descriptor.
    pub(super) fn open(&mut self, dir: DirId, name: &str, mode: OpenMode) -> io::Result<(InodeId, u64)> {
        let inode = match mode {
            OpenMode::CreateNew if self.volume.dir(dir)?.get(name).is_some() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            OpenMode::CreateNew => self.volume.create_file(dir, name)?,
            OpenMode::Read | OpenMode::Write | OpenMode::WriteDirect | OpenMode::WriteDirectUnsynced => {
                self.volume.file_in(dir, name)?
            }
        };
        let is_direct = matches!(mode, OpenMode::WriteDirect | OpenMode::WriteDirectUnsynced);
        if is_direct && !self.volume.config.direct_writes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let descriptor = self.process.next_descriptor;
        self.process.next_descriptor += 1;
        self.process.descriptors.insert(descriptor, Descriptor { inode, lock: None, error: None });
        Ok((inode, descriptor))
    }

    pub(super) fn close(&mut self, inode: InodeId, descriptor: u64) {
        self.process.descriptors.remove(&descriptor);
        self.collect(inode);
    }

    /// Gives up the file unless somebody has it open or a name may lead to it.
    pub(super) fn collect(&mut self, inode: InodeId) {
        if !self.is_open(inode) {
            self.volume.collect(inode);
        }
    }

    fn is_open(&self, inode: InodeId) -> bool {
        self.process.descriptors.values().any(|descriptor| descriptor.inode == inode)
    }

    /// `None` if the lock is taken.
    pub(super) fn lock(&mut self, dir: DirId, name: &str) -> io::Result<Option<InodeId>> {
        let inode = match self.volume.file_in(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.volume.create_file(dir, name)?,
            found => found?,
        };
        Ok(self.process.locks.insert(inode).then_some(inode))
    }

    pub(super) fn unlock(&mut self, inode: InodeId) {
        self.process.locks.remove(&inode);
    }

    /// Locks an open file, unless a lock that another descriptor has on it forbids that.
    pub(super) fn lock_file(&mut self, inode: InodeId, descriptor: u64, lock: FileLock) -> bool {
        let forbids = |id: u64, other: &Descriptor| {
            let excludes = |held| lock == FileLock::Exclusive || held == FileLock::Exclusive;
            id != descriptor && other.inode == inode && other.lock.is_some_and(excludes)
        };
        let is_free = !self.process.descriptors.iter().any(|(id, other)| forbids(*id, other));
        if is_free && let Some(open) = self.process.descriptors.get_mut(&descriptor) {
            open.lock = Some(lock);
        }
        is_free
    }

    /// The blocks of all files that have a name or are open.
    pub(super) fn blocks_used(&self) -> u64 {
        let live = self.volume.inodes.iter().filter(|(id, inode)| inode.links > 0 || self.is_open(**id));
        live.map(|(_, inode)| inode.cache().blocks()).sum()
    }

    /// How many blocks there may be, and the error for one more.
    fn blocks_max(&self) -> Option<(u64, i32)> {
        let config = &self.volume.config;
        let limits = [(config.capacity, errno::ENOSPC), (config.quota, errno::EDQUOT)];
        limits.into_iter().filter_map(|(bytes, errno)| Some((bytes? / PAGE as u64, errno))).min()
    }

    /// How much of a write there is room for.
    fn room_for(&self, inode: InodeId, offset: u64, length: usize, direct: bool) -> io::Result<usize> {
        let config = &self.volume.config;
        let size_max = config.file_size_max.min(FILE_SIZE_MAX);
        if length > 0 && offset >= size_max {
            return Err(os(errno::EFBIG));
        }
        let length = length.min(size_max.saturating_sub(offset) as usize);
        let Some((blocks, errno)) = self.blocks_max() else { return Ok(length) };
        if config.delayed_allocation && !direct {
            return Ok(length);
        }
        let content = self.volume.inode(inode)?.cache();
        let mut free = blocks.saturating_sub(self.blocks_used());
        let mut fits = 0;
        for (page, range) in pages_of(offset, length) {
            if config.copy_on_write || content.is_unallocated(page) {
                if free == 0 {
                    break;
                }
                free -= 1;
            }
            fits += range.len();
        }
        if fits == 0 && length > 0 { Err(os(errno)) } else { Ok(fits) }
    }

    fn shorten(&mut self, length: usize) -> usize {
        let short = self.volume.config.short_transfers && length > 1 && self.volume.rng.percent(25);
        if short { 1 + self.volume.rng.below(length - 1) } else { length }
    }

    fn interrupt(&mut self) -> io::Result<()> {
        if self.volume.config.interrupts && self.volume.rng.percent(10) { Err(os(errno::EINTR)) } else { Ok(()) }
    }

    pub(super) fn read(
        &mut self,
        inode: InodeId,
        buf: &mut [u8],
        offset: u64,
        effect: Option<Effect>,
    ) -> io::Result<usize> {
        self.interrupt()?;
        let (limit, inode, offset) = match effect {
            Some(Effect::Short(limit)) => (limit.min(buf.len()), inode, offset),
            Some(Effect::Misdirect(other)) => (buf.len(), inode, other),
            Some(Effect::WrongFile) => (buf.len(), self.volume.other_file(inode).unwrap_or(inode), offset),
            _ => (self.shorten(buf.len()), inode, offset),
        };
        let file = self.volume.inode(inode)?;
        let readable = file.readable(offset, limit);
        let count = file.cache().read_at(&mut buf[..readable], offset);
        if count == 0 && readable < limit {
            return Err(os(errno::EIO));
        }
        if let Some(Effect::FlipBit(bit)) = effect {
            flip_bit(&mut buf[..count], bit);
        }
        self.note_bytes(&buf[..count]);
        Ok(count)
    }

    pub(super) fn write(
        &mut self,
        inode: InodeId,
        buf: &[u8],
        offset: u64,
        mode: OpenMode,
        effect: Option<Effect>,
    ) -> io::Result<usize> {
        let direct = mode == OpenMode::WriteDirect;
        let in_sectors = direct || mode == OpenMode::WriteDirectUnsynced;
        if in_sectors && (!offset.is_multiple_of(SECTOR as u64) || !buf.len().is_multiple_of(SECTOR)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.interrupt()?;
        self.note_bytes(buf);
        let mut limit = match effect {
            Some(Effect::Short(limit)) => limit,
            Some(Effect::PartialError { bytes, .. }) => bytes,
            _ if in_sectors => buf.len(),
            _ => self.shorten(buf.len()),
        };
        if in_sectors {
            limit -= limit % SECTOR;
        }
        let count = self.room_for(inode, offset, limit.min(buf.len()), direct)?;
        self.store(inode, &buf[..count], offset, direct, effect)?;
        Ok(count)
    }

    /// What is left of a write when it is decided how much of it there is room for.
    fn store(
        &mut self,
        inode: InodeId,
        bytes: &[u8],
        offset: u64,
        direct: bool,
        effect: Option<Effect>,
    ) -> io::Result<()> {
        match effect {
            Some(Effect::LostWrite) => return self.lose_write(inode, bytes, offset, direct),
            Some(Effect::WriteBackError(errno)) => {
                self.lose_write(inode, bytes, offset, direct)?;
                self.tell_descriptors(inode, None, errno);
                return Ok(());
            }
            Some(Effect::Misdirect(other)) => {
                self.lose_write(inode, bytes, offset, direct)?;
                self.volume.inode_mut(inode)?.damage(bytes, other);
                return Ok(());
            }
            Some(Effect::WrongFile) => {
                if let Some(other) = self.volume.other_file(inode) {
                    self.lose_write(inode, bytes, offset, direct)?;
                    self.volume.inode_mut(other)?.damage(bytes, offset);
                    return Ok(());
                }
            }
            Some(Effect::FlipBit(bit)) => {
                let mut flipped = bytes.to_vec();
                flip_bit(&mut flipped, bit);
                return self.store(inode, &flipped, offset, direct, None);
            }
            _ => {}
        }
        let flush_failure = self.volume.config.flush_failure;
        let lies = self.lies(effect);
        let file = self.volume.inode_mut(inode)?;
        match effect {
            Some(Effect::PartialError { errno, .. }) => {
                file.write(bytes, offset);
                return Err(os(errno));
            }
            Some(Effect::FlushError(errno)) => {
                file.write_in_limbo(bytes, offset);
                self.weaken(flush_failure);
                return Err(os(errno));
            }
            _ if direct && !lies => {
                file.write_durably(bytes, offset);
                self.commit_names(inode, false)?;
            }
            _ => file.write(bytes, offset),
        }
        Ok(())
    }

    /// There is no page cache between a direct write and the disk that it does not reach.
    fn lose_write(&mut self, inode: InodeId, bytes: &[u8], offset: u64, direct: bool) -> io::Result<()> {
        if !direct {
            self.volume.inode_mut(inode)?.write_lost(bytes, offset);
        }
        Ok(())
    }

    /// Every descriptor of the file but one gets the error from its next sync.
    pub(super) fn tell_descriptors(&mut self, inode: InodeId, but: Option<u64>, errno: i32) {
        for (number, descriptor) in self.process.descriptors.iter_mut() {
            if descriptor.inode == inode {
                descriptor.error = (Some(*number) != but).then_some(errno);
            }
        }
    }

    pub(super) fn set_len(&mut self, inode: InodeId, len: u64) -> io::Result<()> {
        if len > self.volume.config.file_size_max.min(FILE_SIZE_MAX) {
            return Err(os(errno::EFBIG));
        }
        self.volume.inode_mut(inode)?.set_len(len);
        Ok(())
    }

    /// All or nothing, whenever other writes find out whether there is room.
    pub(super) fn preallocate(&mut self, inode: InodeId, offset: u64, length: u64) -> io::Result<()> {
        let config = &self.volume.config;
        if !config.preallocation {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if length == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let size_max = config.file_size_max.min(FILE_SIZE_MAX);
        if offset.checked_add(length).is_none_or(|end| end > size_max) {
            return Err(os(errno::EFBIG));
        }
        self.interrupt()?;
        if let Some((blocks, errno)) = self.blocks_max() {
            let content = self.volume.inode(inode)?.cache();
            let missing = pages_of(offset, length as usize).filter(|(page, _)| content.is_unallocated(*page)).count();
            if missing > 0 && self.blocks_used() + missing as u64 > blocks {
                return Err(os(errno));
            }
        }
        self.volume.inode_mut(inode)?.preallocate(offset, length);
        Ok(())
    }

    pub(super) fn sync_file(&mut self, inode: InodeId, descriptor: u64, effect: Option<Effect>) -> io::Result<()> {
        let config = &self.volume.config;
        match effect {
            Some(Effect::Error(errno)) => return self.fail_file_sync(inode, descriptor, errno, config.sync_failure),
            Some(Effect::FlushError(errno)) => {
                return self.fail_file_sync(inode, descriptor, errno, config.flush_failure);
            }
            _ => {}
        }
        if let Some(errno) = self.late_refusal(inode)? {
            return self.fail_file_sync(inode, descriptor, errno, self.volume.config.sync_failure);
        }
        if !self.lies(effect) {
            let has_metadata =
                self.volume.config.names == NamePersistence::Journal && self.volume.has_unsynced_metadata(inode);
            if !self.volume.inode(inode)?.is_settled() {
                self.volume.inode_mut(inode)?.settle();
            }
            self.commit_names(inode, has_metadata)?;
        }
        let unheard = self.process.descriptors.get_mut(&descriptor).and_then(|own| own.error.take());
        unheard.map_or(Ok(()), |errno| Err(os(errno)))
    }

    /// The error of a sync that finds no room for what was written.
    fn late_refusal(&self, inode: InodeId) -> io::Result<Option<i32>> {
        if !self.volume.config.delayed_allocation || !self.volume.inode(inode)?.is_dirty() {
            return Ok(None);
        }
        Ok(self.blocks_max().filter(|(blocks, _)| self.blocks_used() > *blocks).map(|(_, errno)| errno))
    }

    /// Makes those names durable that the sync of a file makes durable.
    fn commit_names(&mut self, inode: InodeId, has_metadata: bool) -> io::Result<()> {
        let outdated: Vec<InodeId> = match self.volume.config.names {
            NamePersistence::WithFile => self.commit_path(Node::File(inode)),
            NamePersistence::Journal if has_metadata => self.unsettled_dirs(|_| true).flat_map(Dir::settle).collect(),
            _ => return Ok(()),
        };
        outdated.into_iter().for_each(|inode| self.collect(inode));
        Ok(())
    }

    /// Makes the name of a file durable, and those of the new directories that lead to it.
    fn commit_path(&mut self, mut node: Node) -> Vec<InodeId> {
        let mut outdated = Vec::new();
        loop {
            let parent = self.volume.dirs.iter_mut().find(|(_, dir)| dir.is_name_unsynced(node));
            let Some((id, dir)) = parent else { return outdated };
            outdated.extend(Arc::make_mut(dir).settle_names_of(node));
            node = Node::Dir(*id);
        }
    }

    fn unsettled_dirs(&mut self, wanted: impl Fn(&Dir) -> bool) -> impl Iterator<Item = &mut Dir> {
        let dirs = self.volume.dirs.values_mut();
        dirs.filter(move |dir| !dir.is_settled() && wanted(dir)).map(Arc::make_mut)
    }

    fn fail_file_sync(&mut self, inode: InodeId, descriptor: u64, errno: i32, failure: SyncFailure) -> io::Result<()> {
        let mut rng = self.volume.rng.clone();
        self.volume.inode_mut(inode)?.fail_sync(failure, &mut rng);
        let tells_all = match failure {
            SyncFailure::PagesDropped | SyncFailure::PagesKept => true,
            SyncFailure::Any => rng.percent(50),
            SyncFailure::Ext4Like | SyncFailure::XfsLike | SyncFailure::BtrfsLike => false,
        };
        self.volume.rng = rng;
        if tells_all {
            self.tell_descriptors(inode, Some(descriptor), errno);
        }
        self.weaken(failure);
        Err(os(errno))
    }

    pub(super) fn sync_dir(&mut self, dir: DirId, effect: Option<Effect>) -> io::Result<()> {
        let config = &self.volume.config;
        match effect {
            Some(Effect::Error(errno)) => return self.fail_dir_sync(dir, errno, config.sync_failure),
            Some(Effect::FlushError(errno)) => return self.fail_dir_sync(dir, errno, config.flush_failure),
            _ => {}
        }
        let is_journal = config.names == NamePersistence::Journal;
        if self.lies(effect) || self.volume.dir(dir)?.is_settled() && !is_journal {
            return Ok(());
        }
        let outdated: Vec<InodeId> = if is_journal {
            self.unsettled_dirs(|_| true).flat_map(Dir::settle).collect()
        } else {
            self.volume.dir_mut(dir)?.settle()
        };
        outdated.into_iter().for_each(|inode| self.collect(inode));
        Ok(())
    }

    fn fail_dir_sync(&mut self, dir: DirId, errno: i32, failure: SyncFailure) -> io::Result<()> {
        let keeps = match failure {
            SyncFailure::PagesKept => true,
            SyncFailure::Any => self.volume.rng.percent(50),
            _ => false,
        };
        if !keeps {
            self.volume.dir_mut(dir)?.fail_sync();
        }
        self.weaken(failure);
        Err(os(errno))
    }

    fn weaken(&mut self, failure: SyncFailure) {
        match failure {
            SyncFailure::XfsLike => self.volume.health = Health::ShutDown,
            SyncFailure::BtrfsLike => self.volume.health = Health::ReadOnly,
            _ => {}
        }
    }

    fn lies(&self, effect: Option<Effect>) -> bool {
        self.volume.config.lying_flush || effect == Some(Effect::Lie)
    }
}

fn flip_bit(bytes: &mut [u8], bit: u64) {
    if !bytes.is_empty() {
        let bit = (bit % (8 * bytes.len() as u64)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
