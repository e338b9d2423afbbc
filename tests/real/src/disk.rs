//! The content of a block device, in memory, shared between copies as long as they are the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The unit in which copies of a disk share memory.
const BLOCK_BYTES: usize = 4096;

/// What a device tears a write into when the power goes.
pub const SECTOR_BYTES: usize = 512;

type Block = [u8; BLOCK_BYTES];

/// The content of a block device. What was never written, or is zero, takes no memory.
#[derive(Clone, Debug)]
pub struct Disk {
    blocks: Vec<Option<Arc<Block>>>,
}

/// A disk as it is kept in a file: its blocks that are not zero, each with its number.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredDisk {
    bytes: u64,
    numbers: Vec<u64>,
}

impl Disk {
    /// A disk of zeros. `bytes` is rounded down to whole blocks.
    pub fn new(bytes: u64) -> Disk {
        Disk { blocks: vec![None; (bytes / BLOCK_BYTES as u64) as usize] }
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        (self.blocks.len() * BLOCK_BYTES) as u64
    }

    /// Reads `len` bytes at `offset`, fewer at the end of the disk.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = (offset + len as u64).min(self.len());
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (number, within) = position(at);
            let count = (BLOCK_BYTES - within).min((end - at) as usize);
            match &self.blocks[number] {
                Some(block) => bytes.extend_from_slice(&block[within..within + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    /// Writes `bytes` at `offset`; what lies past the end of the disk is dropped.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() && at < self.len() {
            let (number, within) = position(at);
            let (now, later) = rest.split_at((BLOCK_BYTES - within).min(rest.len()));
            let slot = &mut self.blocks[number];
            if now.len() == BLOCK_BYTES && now.iter().all(|&byte| byte == 0) {
                *slot = None;
            } else {
                let block = slot.get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
                Arc::make_mut(block)[within..within + now.len()].copy_from_slice(now);
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    /// The disk for a file: which blocks are not zero, and then those blocks.
    pub fn store(&self) -> (StoredDisk, Vec<u8>) {
        let used = || self.blocks.iter().enumerate().filter_map(|(number, block)| Some((number, block.as_ref()?)));
        let stored = StoredDisk { bytes: self.len(), numbers: used().map(|(number, _)| number as u64).collect() };
        (stored, used().flat_map(|(_, block)| block.iter().copied()).collect())
    }

    /// What [`Disk::store`] made, a disk again. `None` if it does not fit together.
    pub fn restore(stored: &StoredDisk, blocks: &[u8]) -> Option<Disk> {
        let mut disk = Disk::new(stored.bytes);
        if blocks.len() != stored.numbers.len() * BLOCK_BYTES {
            return None;
        }
        for (number, block) in stored.numbers.iter().zip(blocks.chunks_exact(BLOCK_BYTES)) {
            disk.write(number * BLOCK_BYTES as u64, block);
        }
        Some(disk)
    }
}

fn position(offset: u64) -> (usize, usize) {
    ((offset / BLOCK_BYTES as u64) as usize, (offset % BLOCK_BYTES as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_copies_do_not_share_what_is_written_later() {
        let mut disk = Disk::new(3 * BLOCK_BYTES as u64);
        disk.write(4000, &[7; 200]);
        let copy = disk.clone();
        disk.write(4096, &[9; 512]);
        assert_eq!(disk.read(3999, 3), [0, 7, 7]);
        assert_eq!(disk.read(4095, 2), [7, 9]);
        assert_eq!(copy.read(4095, 2), [7, 7]);
        assert_eq!(copy.read(3 * 4096 - 1, 9), [0]);
        let (stored, blocks) = disk.store();
        let restored = Disk::restore(&stored, &blocks).expect("it fits together");
        assert_eq!(restored.read(0, 12288), disk.read(0, 12288));
    }
}
