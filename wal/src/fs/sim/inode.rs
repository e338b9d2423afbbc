//! One file: what programs read, what the disk holds, and what lies between the two.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::config::SyncFailure;
use super::content::{Content, SECTOR, zero_sector};
use super::rng::Rng;
use super::trace::{DIGEST_SEED, digest, mix};

/// How far a write has come on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The next successful sync makes it durable.
    Dirty,
    /// A sync failed. No later sync settles it, yet a crash may find it on the disk.
    Limbo,
    /// Durable. Kept in the list only because it outdates the versions in limbo before it.
    Settled,
}

/// What becomes of a dirty write when a sync fails.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Dropped,
    Kept,
    Undecided,
    Durable,
}

/// What whole sectors held after one write.
#[derive(Clone, Debug)]
struct Unsynced {
    first: u64,
    count: u64,
    standing: Standing,
    /// `None` is zeros.
    bytes: Option<Arc<Vec<u8>>>,
}

impl Unsynced {
    fn sector(&self, sector: u64) -> &[u8] {
        let start = (sector - self.first) as usize * SECTOR;
        self.bytes.as_ref().map_or(zero_sector(), |bytes| &bytes[start..start + SECTOR])
    }

    fn sectors(&self) -> Range<u64> {
        self.first..self.first + self.count
    }

    /// The part of the write in these sectors, which may be none.
    fn part(&self, sectors: Range<u64>) -> Option<Unsynced> {
        let (first, end) = (self.first.max(sectors.start), (self.first + self.count).min(sectors.end));
        if first >= end {
            return None;
        }
        let range = (first - self.first) as usize * SECTOR..(end - self.first) as usize * SECTOR;
        let bytes = self.bytes.as_ref().map(|bytes| Arc::new(bytes[range].to_vec()));
        Some(Unsynced { first, count: end - first, standing: self.standing, bytes })
    }
}

/// What one sector may hold after a crash. The first version is what is durable.
pub(super) struct SectorVersions<'a> {
    pub(super) sector: u64,
    pub(super) versions: Vec<&'a [u8]>,
    /// The version that programs read.
    pub(super) newest: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cache: Content,
    disk: Content,
    writes: Vec<Unsynced>,
    /// The lengths since the last sync, oldest first.
    sizes: Vec<u64>,
    /// Clean pages of the cache may differ from the disk, because a sync failed.
    diverged: bool,
    /// Sectors of the disk that cannot be read until they are written again.
    unreadable: Option<Arc<BTreeSet<u64>>>,
    /// The number of names that lead here now.
    pub(super) links: u32,
}

impl Inode {
    /// A file that is durable as it is.
    pub(super) fn settled(content: Content, links: u32) -> Inode {
        Inode { cache: content.clone(), disk: content, links, ..Inode::default() }
    }

    /// What is left of the file when a crash has chosen its content. Unreadable sectors stay so.
    pub(super) fn survivor(&self, content: Content) -> Inode {
        let mut survivor = Inode::settled(content, self.links);
        survivor.unreadable.clone_from(&self.unreadable);
        survivor.forget_unreadable_behind_end();
        survivor
    }

    pub(super) fn cache(&self) -> &Content {
        &self.cache
    }

    pub(super) fn disk(&self) -> &Content {
        &self.disk
    }

    /// Whether a crash has nothing to decide, and nothing to lose.
    pub(super) fn is_settled(&self) -> bool {
        self.writes.is_empty() && self.sizes.is_empty() && !self.diverged
    }

    /// Whether a sync has anything to write.
    pub(super) fn is_dirty(&self) -> bool {
        self.writes.iter().any(|write| write.standing == Standing::Dirty)
    }

    /// A hash of all that a crash decides about and of all that later calls can find out.
    pub(super) fn state_fingerprint(&self) -> u64 {
        let mut hash = self.cache.fingerprint();
        if !self.is_settled() {
            hash = mix(mix(hash, u64::from(self.diverged)), self.disk.fingerprint());
            hash = self.sizes.iter().fold(hash, |hash, size| mix(hash, *size));
            for write in &self.writes {
                let bytes = write.bytes.as_ref().map_or(0, |bytes| digest(DIGEST_SEED, bytes));
                hash = [write.first, write.count, write.standing as u64, bytes].into_iter().fold(hash, mix);
            }
        }
        self.unreadable.iter().flat_map(|sectors| sectors.iter()).fold(hash, |hash, sector| mix(hash, *sector))
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.cache.write_at(bytes, offset);
        self.note_size();
        let sectors = sectors_of(offset, bytes.len());
        self.heal(&sectors);
        self.note_write(sectors.start, sectors.end - sectors.start);
    }

    /// Space for these bytes. Where there was none it is like a write of zeros, which a crash before the next sync may lose.
    pub(super) fn preallocate(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let mut sectors = sectors_of(offset, length as usize);
        while let Some(first) = sectors.find(|sector| self.cache.is_hole(*sector)) {
            let count = 1 + sectors.clone().take_while(|sector| self.cache.is_hole(*sector)).count() as u64;
            self.cache.store_zeros(first * SECTOR as u64, count * SECTOR as u64);
            self.note_write(first, count);
            sectors.start = first + count;
        }
        if end > self.cache.len() {
            self.cache.set_len(end);
            self.note_size();
        }
    }

    /// A write whose flush failed: no later sync settles it, and a crash may find it on the disk.
    pub(super) fn write_in_limbo(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.write(bytes, offset);
        self.diverged = true;
        if let Some(write) = self.writes.last_mut() {
            write.standing = Standing::Limbo;
        }
    }

    /// A write that programs read back and that never reaches the disk. What its sectors held before is lost with it, as the
    /// disk writes sectors as a whole; the size is metadata and is not.
    pub(super) fn write_lost(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.cache.write_at(bytes, offset);
        self.note_size();
        self.drop_dirty(sectors_of(offset, bytes.len()));
    }

    /// The dirty sectors in this range are clean from now on, and the disk has not got them.
    pub(super) fn drop_dirty(&mut self, lost: Range<u64>) {
        self.diverged = true;
        for write in std::mem::take(&mut self.writes) {
            if write.standing == Standing::Dirty {
                self.writes.extend(write.part(0..lost.start));
                self.writes.extend(write.part(lost.end..u64::MAX));
            } else {
                self.writes.push(write);
            }
        }
        self.forget_settled();
    }

    /// Puts bytes onto the disk that nobody wrote here. They are read at once, as if the page had not been cached. Nothing
    /// grows.
    pub(super) fn damage(&mut self, bytes: &[u8], offset: u64) {
        let within = |len: u64| (len.saturating_sub(offset) as usize).min(bytes.len());
        let (cached, stored) = (within(self.cache.len()), within(self.disk.len()));
        self.cache.store(&bytes[..cached], offset);
        self.disk.store(&bytes[..stored], offset);
    }

    /// Makes the sectors that hold these bytes unreadable.
    pub(super) fn make_unreadable(&mut self, offset: u64, length: u64) {
        let sectors = offset / SECTOR as u64..(offset + length).div_ceil(SECTOR as u64);
        Arc::make_mut(self.unreadable.get_or_insert_default()).extend(sectors);
        self.forget_unreadable_behind_end();
    }

    /// How many bytes can be read at `offset`, of at most `length`, before an unreadable sector.
    pub(super) fn readable(&self, offset: u64, length: usize) -> usize {
        let Some(unreadable) = &self.unreadable else { return length };
        let first = unreadable.range(offset / SECTOR as u64..).next();
        first.map_or(length, |sector| ((sector * SECTOR as u64).saturating_sub(offset) as usize).min(length))
    }

    fn heal(&mut self, sectors: &Range<u64>) {
        if let Some(unreadable) = &mut self.unreadable {
            Arc::make_mut(unreadable).retain(|sector| !sectors.contains(sector));
            self.forget_unreadable_behind_end();
        }
    }

    fn forget_unreadable_behind_end(&mut self) {
        let end = self.cache.len().div_ceil(SECTOR as u64);
        if let Some(unreadable) = &mut self.unreadable {
            Arc::make_mut(unreadable).retain(|sector| *sector < end);
            if unreadable.is_empty() {
                self.unreadable = None;
            }
        }
    }

    /// What `O_DSYNC` promises: this write alone is durable, whatever else waits.
    pub(super) fn write_durably(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.write(bytes, offset);
        let Some(write) = self.writes.last_mut() else { return };
        write.standing = Standing::Settled;
        for sector in write.first..write.first + write.count {
            self.disk.copy_sector(&self.cache, sector);
        }
        self.disk.set_len(self.cache.len());
        self.sizes.clear();
        self.forget_settled();
    }

    /// Cutting writes zeros behind the new end, so growing again may bring back any mixture of zeros and old bytes.
    pub(super) fn set_len(&mut self, len: u64) {
        let old = self.cache.len();
        let end = old.div_ceil(SECTOR as u64).min(self.cache.sectors());
        self.cache.set_len(len);
        self.note_size();
        self.forget_unreadable_behind_end();
        let first = len / SECTOR as u64;
        if len >= old || first >= end {
            return;
        }
        let partial = u64::from(!len.is_multiple_of(SECTOR as u64));
        if partial == 1 {
            self.note_write(first, 1);
        }
        if first + partial < end {
            self.note_write(first + partial, end - first - partial);
        }
    }

    fn note_size(&mut self) {
        if self.sizes.last().copied().unwrap_or(self.disk.len()) != self.cache.len() {
            self.sizes.push(self.cache.len());
        }
    }

    fn note_write(&mut self, first: u64, count: u64) {
        let length = count as usize * SECTOR;
        let is_zero = self.cache.is_zero(first * SECTOR as u64, length);
        let bytes = (!is_zero).then(|| Arc::new(self.cache.copy(first * SECTOR as u64, length)));
        self.writes.push(Unsynced { first, count, standing: Standing::Dirty, bytes });
    }

    /// A sync that succeeds.
    pub(super) fn settle(&mut self) {
        for write in self.writes.iter_mut().filter(|write| write.standing == Standing::Dirty) {
            write.standing = Standing::Settled;
            if self.diverged {
                write.sectors().for_each(|sector| self.disk.copy_sector(&self.cache, sector));
            } else {
                self.disk.share_pages(&self.cache, write.sectors());
            }
        }
        self.disk.set_len(self.cache.len());
        self.sizes.clear();
        self.forget_settled();
    }

    fn forget_settled(&mut self) {
        if self.writes.iter().all(|write| write.standing == Standing::Settled) {
            self.writes.clear();
        }
    }

    /// A sync that fails: the dirty pages become clean, whatever became of them, unless they are kept. The size is metadata, and
    /// stays dirty.
    pub(super) fn fail_sync(&mut self, failure: SyncFailure, rng: &mut Rng) {
        if failure == SyncFailure::PagesKept {
            return;
        }
        self.diverged = true;
        for mut write in std::mem::take(&mut self.writes) {
            let fate = match failure {
                _ if write.standing != Standing::Dirty => Fate::Kept,
                SyncFailure::PagesDropped => Fate::Dropped,
                SyncFailure::Any => [Fate::Dropped, Fate::Undecided, Fate::Kept, Fate::Durable][rng.below(4)],
                _ => Fate::Undecided,
            };
            match fate {
                Fate::Dropped => continue,
                Fate::Kept => {}
                Fate::Undecided => write.standing = Standing::Limbo,
                Fate::Durable => {
                    let bytes = |sector| write.sector(sector);
                    write.sectors().for_each(|sector| self.disk.store(bytes(sector), sector * SECTOR as u64));
                    write.standing = Standing::Settled;
                }
            }
            self.writes.push(write);
        }
        self.restore_disk_end();
        self.forget_settled();
    }

    /// Sectors that were stored past the durable size are there only when the size is.
    fn restore_disk_end(&mut self) {
        self.disk.set_len(self.disk.len());
    }

    /// Forgets the clean pages of the cache: what a failed sync dropped shows its old bytes again.
    pub(super) fn drop_cache(&mut self) {
        let len = self.cache.len();
        self.cache = self.disk.clone();
        for write in &self.writes {
            match (&write.bytes, write.standing) {
                // It outdates what is undecided before it.
                (_, Standing::Settled) => write.sectors().for_each(|sector| self.cache.copy_sector(&self.disk, sector)),
                (Some(bytes), _) => self.cache.store(bytes, write.first * SECTOR as u64),
                (None, _) => self.cache.store_zeros(write.first * SECTOR as u64, write.count * SECTOR as u64),
            }
        }
        self.cache.set_len(len);
    }

    /// Flips a bit in everything that is or may become the content.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        self.cache.flip_bit(offset, bit);
        if offset < self.disk.len() {
            self.disk.flip_bit(offset, bit);
        }
        let sector = offset / SECTOR as u64;
        for write in self.writes.iter_mut().filter(|write| write.sectors().contains(&sector)) {
            let length = write.count as usize * SECTOR;
            let mut bytes = write.bytes.as_ref().map_or_else(|| vec![0; length], |bytes| bytes.to_vec());
            bytes[(offset - write.first * SECTOR as u64) as usize] ^= 1 << bit;
            write.bytes = Some(Arc::new(bytes));
        }
    }

    /// The sizes that a crash chooses from, the durable one first, and which of them programs see.
    pub(super) fn size_versions(&self) -> (Vec<u64>, usize) {
        let mut versions = vec![self.disk.len()];
        let mut newest = 0;
        for size in &self.sizes {
            newest = versions.iter().position(|version| version == size).unwrap_or(versions.len());
            if newest == versions.len() {
                versions.push(*size);
            }
        }
        (versions, newest)
    }

    /// The sectors that a crash decides about, in order. Versions with equal bytes count once. With `holes_vary`, a lost
    /// sector in a hole may read as something else than zeros, so zeros that were written there are a version.
    pub(super) fn undecided_sectors(&self, holes_vary: bool) -> Vec<SectorVersions<'_>> {
        let mut touched = Vec::new();
        for (order, write) in self.writes.iter().enumerate() {
            touched.extend(write.sectors().map(|sector| (sector, order)));
        }
        touched.sort_unstable();
        let mut undecided = Vec::new();
        for group in touched.chunk_by(|left, right| left.0 == right.0) {
            let versions = self.versions_of(group, holes_vary);
            if versions.versions.len() > 1 {
                undecided.push(versions);
            }
        }
        undecided
    }

    fn versions_of(&self, group: &[(u64, usize)], holes_vary: bool) -> SectorVersions<'_> {
        let sector = group[0].0;
        let base_varies = holes_vary && self.disk.is_hole(sector);
        let mut versions = vec![self.disk.sector(sector)];
        let mut newest = 0;
        for (_, order) in group {
            let write = &self.writes[*order];
            if write.standing == Standing::Settled {
                versions.truncate(1);
                newest = 0;
                continue;
            }
            let bytes = write.sector(sector);
            let start = usize::from(base_varies);
            let known = versions[start..].iter().position(|version| *version == bytes);
            newest = known.map_or(versions.len(), |index| index + start);
            if known.is_none() {
                versions.push(bytes);
            }
        }
        SectorVersions { sector, versions, newest }
    }
}

fn sectors_of(offset: u64, length: usize) -> Range<u64> {
    offset / SECTOR as u64..(offset + length as u64).div_ceil(SECTOR as u64)
}
