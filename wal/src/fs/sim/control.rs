//! What a test does to the file system from outside. None of it is a call: it is neither counted nor failed nor recorded.

use std::io;
use std::path::Path;

use super::content::{Content, PAGE};
use super::crash::{CrashPlan, Outcomes, Undecided};
use super::names::Node;
use super::rng::Rng;
use super::state::is_simulated_crash;
use super::{Event, Fault, SimConfig, SimFs};

/// Calls, faults and the trace.
impl SimFs {
    /// How many calls were made. The next call has this number.
    pub fn calls(&self) -> u64 {
        self.shared.state.lock().process.calls
    }

    /// Plans a fault, besides those that are planned already. If several match a call, the first applies.
    pub fn plan(&self, fault: Fault) {
        self.shared.state.lock().process.faults.push(fault);
    }

    /// The planned faults that have not run out.
    pub fn planned(&self) -> Vec<Fault> {
        self.shared.state.lock().process.faults.clone()
    }

    /// Forgets all planned faults.
    pub fn forget_faults(&self) {
        self.shared.state.lock().process.faults.clear();
    }

    /// Lets the machine crash right before the call with this number: it and all later calls do nothing and fail with an
    /// error of the kind [`Other`](io::ErrorKind::Other) that [`SimFs::is_simulated_crash`] knows.
    pub fn crash_at(&self, call: u64) {
        self.shared.state.lock().process.crash_at = Some(call);
    }

    /// Whether the call of [`SimFs::crash_at`] was made, so that all later ones fail.
    pub fn is_crashed(&self) -> bool {
        let state = self.shared.state.lock();
        state.process.crash_at.is_some_and(|crash| crash < state.process.calls)
    }

    /// Whether an error is that of a planned crash.
    pub fn is_simulated_crash(error: &io::Error) -> bool {
        is_simulated_crash(error)
    }

    /// Changes the settings of the running file system. The function must not use the file system.
    pub fn configure(&self, change: impl FnOnce(&mut SimConfig)) {
        change(&mut self.shared.state.lock().volume.config);
    }

    /// Starts or stops the recording of calls.
    pub fn record_trace(&self, on: bool) {
        self.shared.state.lock().process.tracing = on;
    }

    /// The calls that were recorded since the last time this was called.
    pub fn take_trace(&self) -> Vec<Event> {
        std::mem::take(&mut self.shared.state.lock().process.trace)
    }
}

/// Crashes.
impl SimFs {
    /// The file system after the machine crashed, at this moment, and booted again.
    pub fn crash(&self, plan: &CrashPlan) -> SimFs {
        SimFs::from_volume(self.shared.state.lock().volume.after_crash(plan))
    }

    /// The file system after the process died, at this moment: locks and open files are gone; everything written is still
    /// there to be read, and no more durable than before. This is also a cheap copy to try something on.
    pub fn kill(&self) -> SimFs {
        let mut volume = self.shared.state.lock().volume.clone();
        let unlinked = volume.inodes.iter().filter(|(_, inode)| inode.links == 0);
        let unlinked: Vec<_> = unlinked.map(|(id, _)| *id).collect();
        unlinked.into_iter().for_each(|id| volume.collect(id));
        SimFs::from_volume(volume)
    }

    /// What a crash at this moment would decide about, in a fixed order: names, and then for each file its size and its
    /// sectors. Items whose versions are all equal are not among them.
    pub fn undecided(&self) -> Vec<Undecided> {
        self.shared.state.lock().volume.undecided()
    }

    /// All outcomes of a crash at this moment, or `None` if more than `items_max` items are undecided. Different plans
    /// may have the same outcome, for example when a file lost its name, so that its sectors make no difference;
    /// [`SimFs::fingerprint`] tells.
    pub fn outcomes(&self, items_max: usize) -> Option<Outcomes> {
        let items = self.undecided();
        (items.len() <= items_max).then(|| Outcomes::new(&items))
    }

    /// Starts or stops keeping the state before each call that changes or syncs something.
    pub fn keep_crash_points(&self, on: bool) {
        self.shared.state.lock().process.crash_points = on.then(Vec::new);
    }

    /// The states that were kept, each with the number of the call that comes next, so that one run of a program shows
    /// every crash that it can have. Crashing one is the same as crashing at that call.
    pub fn take_crash_points(&self) -> Vec<(u64, SimFs)> {
        let mut state = self.shared.state.lock();
        let points = state.process.crash_points.as_mut().map(std::mem::take).unwrap_or_default();
        points.into_iter().map(|(call, volume)| (call, SimFs::from_volume(volume))).collect()
    }

    /// Drops the clean pages of the page cache: data that a failed sync dropped is no longer read.
    pub fn drop_caches(&self) {
        let mut state = self.shared.state.lock();
        for inode in state.volume.inodes.values_mut().filter(|inode| !inode.is_settled()) {
            std::sync::Arc::make_mut(inode).drop_cache();
        }
    }
}

/// The files, past the traits and without faults.
impl SimFs {
    /// The bytes of a file, as programs see them.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.shared.state.lock();
        Ok(state.volume.inode(state.volume.find_file(path.as_ref())?)?.cache().to_vec())
    }

    /// Creates or replaces a file. Its name and bytes are durable at once; who has it open sees the new bytes.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let mut content = Content::default();
        content.write_at(bytes, 0);
        self.shared.state.lock().volume.put_file(path.as_ref(), content)
    }

    /// Creates or replaces the file `to` with the bytes of the file `from`, durably.
    pub fn copy_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let content = state.volume.inode(state.volume.find_file(from.as_ref())?)?.cache().clone();
        state.volume.put_file(to.as_ref(), content)
    }

    /// Removes a file, durably.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let (dir, name) = state.volume.find_parent(path.as_ref())?;
        let inode = state.volume.file_in(dir, name)?;
        state.volume.dir_mut(dir)?.set_durably(name, None);
        state.volume.unlink(inode)?;
        state.collect(inode);
        Ok(())
    }

    /// The names in a directory, in order; those of directories end in `/`.
    pub fn names(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let state = self.shared.state.lock();
        let dir = state.volume.dir(state.volume.find_dir(path.as_ref())?)?;
        let shown = |(name, node): (&std::sync::Arc<str>, &Node)| match node {
            Node::File(_) => name.to_string(),
            Node::Dir(_) => format!("{name}/"),
        };
        Ok(dir.live().iter().map(shown).collect())
    }

    /// Flips a bit (0 is the lowest) of the byte at `offset`, on the disk and in the page cache. Past the end of the file
    /// this is [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let inode = state.volume.find_file(path.as_ref())?;
        if bit > 7 || offset >= state.volume.inode(inode)?.cache().len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        state.volume.inode_mut(inode)?.flip_bit(offset, bit);
        Ok(())
    }

    /// Flips one bit of one file, both picked by the seed, as [`SimFs::flip_bit`] does. Returns the path, the offset and the bit, or `None`
    /// if no file holds anything.
    pub fn rot(&self, seed: u64) -> Option<(String, u64, u8)> {
        let mut rng = Rng::new(seed);
        let mut state = self.shared.state.lock();
        let files = state.volume.inodes.iter().filter(|(_, inode)| inode.links > 0 && inode.cache().len() > 0);
        let files: Vec<_> = files.map(|(id, inode)| (*id, inode.cache().len())).collect();
        let (id, len) = *files.get(rng.below(files.len().max(1)))?;
        let (offset, bit) = (rng.next() % len, rng.below(8) as u8);
        state.volume.inode_mut(id).ok()?.flip_bit(offset, bit);
        Some((state.volume.path_of(id), offset, bit))
    }

    /// Makes the sectors that hold these bytes of a file unreadable: reads stop before them, and a read that begins in one
    /// fails with `EIO`. They can be read again once something was written to them. A crash does not mend them.
    pub fn make_unreadable(&self, path: impl AsRef<Path>, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let inode = state.volume.find_file(path.as_ref())?;
        state.volume.inode_mut(inode)?.make_unreadable(offset, length);
        Ok(())
    }

    /// Lets the write-back of all unsynced data of a file fail, now and behind everybody's back: the disk never gets it,
    /// programs go on reading it until the cache is dropped, and each descriptor that is open now gets this error number from its next sync, once.
    pub fn fail_write_back(&self, path: impl AsRef<Path>, errno: i32) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let inode = state.volume.find_file(path.as_ref())?;
        state.volume.inode_mut(inode)?.drop_dirty(0..u64::MAX);
        state.tell_descriptors(inode, None, errno);
        Ok(())
    }

    /// How much space the files take up, in bytes; see [`SimConfig::capacity`].
    pub fn space_used(&self) -> u64 {
        self.shared.state.lock().blocks_used() * PAGE as u64
    }

    /// A hash of all names and bytes that programs see. Equal file systems have equal fingerprints, so an explorer can
    /// leave out outcomes that it has seen.
    pub fn fingerprint(&self) -> u64 {
        self.shared.state.lock().volume.fingerprint()
    }

    /// A hash of all that programs see and of all that a crash would decide about: what runs and crashes in the same way has
    /// the same, if faults, settings and random numbers are the same too. Right after a crash it tells no more than
    /// [`SimFs::fingerprint`]; after [`SimFs::kill`], it does.
    pub fn state_fingerprint(&self) -> u64 {
        self.shared.state.lock().volume.state_fingerprint()
    }
}
