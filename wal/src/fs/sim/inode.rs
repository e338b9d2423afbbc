//! One file: what programs read, what the disk holds, and what lies between the two.

use std::sync::Arc;

use super::config::SyncFailure;
use super::content::{Content, SECTOR, is_zero, zero_sector};

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

/// What whole sectors held after one write.
#[derive(Clone, Debug)]
struct Unsynced {
    first: u64,
    count: u64,
    standing: Standing,
    /// `None` is zeros.
    bytes: Option<Arc<[u8]>>,
}

impl Unsynced {
    fn sector(&self, sector: u64) -> &[u8] {
        let start = (sector - self.first) as usize * SECTOR;
        self.bytes.as_ref().map_or(zero_sector(), |bytes| &bytes[start..start + SECTOR])
    }

    fn sectors(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
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
    /// The number of names that lead here now.
    pub(super) links: u32,
}

impl Inode {
    /// A file that is durable as it is.
    pub(super) fn settled(content: Content, links: u32) -> Inode {
        Inode { cache: content.clone(), disk: content, links, ..Inode::default() }
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

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.cache.write_at(bytes, offset);
        self.note_size();
        let first = offset / SECTOR as u64;
        let end = (offset + bytes.len() as u64).div_ceil(SECTOR as u64);
        self.note_write(first, end - first);
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
        let mut bytes = vec![0; count as usize * SECTOR];
        self.cache.copy_out(&mut bytes, first * SECTOR as u64);
        let bytes = (!is_zero(&bytes)).then(|| Arc::from(bytes));
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

    /// A sync that fails: the dirty pages become clean, whatever became of them. The size is metadata, and stays dirty.
    pub(super) fn fail_sync(&mut self, failure: SyncFailure) {
        self.diverged = true;
        if failure == SyncFailure::PagesDropped {
            self.writes.retain(|write| write.standing != Standing::Dirty);
            self.forget_settled();
            return;
        }
        for write in self.writes.iter_mut().filter(|write| write.standing == Standing::Dirty) {
            write.standing = Standing::Limbo;
        }
    }

    /// Forgets the clean pages of the cache: what a failed sync dropped shows its old bytes again.
    pub(super) fn drop_cache(&mut self) {
        let len = self.cache.len();
        self.cache = self.disk.clone();
        for write in &self.writes {
            match (&write.bytes, write.standing) {
                (_, Standing::Settled) => {}
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
            write.bytes = Some(Arc::from(bytes));
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
