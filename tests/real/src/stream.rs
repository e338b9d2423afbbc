//! What a device was asked to do, in order, and what it may hold when the power goes in the middle.

use serde::{Deserialize, Serialize};
use wal_tests::rng::Rng;

use crate::disk::{Disk, SECTOR_BYTES};
use crate::payload;

/// One request that a device completed.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes were handed over. They are durable once a later flush was completed.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Everything handed over before is durable.
    Flush,
}

/// Which of the writes after the last flush reached the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// None of them.
    Nothing,
    /// All of them.
    All,
    /// Each by a throw of the dice.
    Some,
    /// Each sector of each of them by a throw of the dice.
    Torn,
    /// All but one.
    AllButOne,
    /// One of them.
    One,
}

impl Kept {
    /// All ways.
    pub const EACH: [Kept; 6] = [Kept::Nothing, Kept::All, Kept::Some, Kept::Torn, Kept::AllButOne, Kept::One];
}

/// A power cut.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// So many events were completed.
    pub at: u64,
    /// What became of the unflushed writes.
    pub kept: Kept,
    /// For the dice.
    pub seed: u64,
    /// So many flushes were lied about: the log's own blocks that were written since are as unsafe as unflushed ones.
    pub lied_flushes: u64,
}

/// What the image of a cut consists of.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Writes after the last flush.
    pub unflushed: u64,
    /// Of these, how many are in the image as a whole.
    pub whole: u64,
    /// Of these, how many are in it in part.
    pub torn: u64,
    /// Writes of the log's blocks that a flush covered, and that are lost because the device lied.
    pub lied_about: u64,
}

/// A recording: the disk at its start, and what followed.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The disk at the start.
    pub base: Disk,
    /// What followed.
    pub events: Vec<Event>,
    /// The disk after the first so many events, kept because cuts come roughly in order.
    built: Option<(usize, Disk)>,
}

impl Stream {
    /// A recording that starts now.
    pub fn new(base: Disk) -> Stream {
        Stream::of(base, Vec::new())
    }

    /// A recording that was kept in a file.
    pub fn of(base: Disk, events: Vec<Event>) -> Stream {
        Stream { base, events, built: None }
    }

    /// The disk as the power cut leaves it.
    pub fn image(&mut self, cut: &Cut) -> (Disk, ImageSummary) {
        let at = (cut.at as usize).min(self.events.len());
        let flushed = self.last_flush(at, 0);
        let honest = self.last_flush(at, cut.lied_flushes);
        let mut disk = self.disk_after(honest);
        let mut rng = Rng::new(cut.seed);
        let mut summary = ImageSummary::default();
        for event in &self.events[honest..flushed] {
            let Event::Write { offset, bytes } = event else { continue };
            if payload::is_in(bytes) && rng.percent(50) {
                summary.lied_about += 1;
            } else {
                disk.write(*offset, bytes);
            }
        }
        let writes: Vec<(u64, &[u8])> = self.events[flushed..at]
            .iter()
            .filter_map(|event| match event {
                Event::Write { offset, bytes } => Some((*offset, bytes.as_slice())),
                Event::Flush => None,
            })
            .collect();
        summary.unflushed = writes.len() as u64;
        keep(&mut disk, &writes, cut.kept, &mut rng, &mut summary);
        (disk, summary)
    }

    /// Where the events behind the last flush before `at` begin, if so many flushes before it were none.
    fn last_flush(&self, at: usize, skipped: u64) -> usize {
        let flushes = self.events[..at].iter().enumerate().rev().filter(|(_, event)| matches!(event, Event::Flush));
        flushes.map(|(index, _)| index).nth(skipped as usize).unwrap_or(0)
    }

    /// The disk after the first `count` events.
    fn disk_after(&mut self, count: usize) -> Disk {
        let (mut done, mut disk) = match self.built.take() {
            Some((done, disk)) if done <= count => (done, disk),
            _ => (0, self.base.clone()),
        };
        for event in &self.events[done..count] {
            if let Event::Write { offset, bytes } = event {
                disk.write(*offset, bytes);
            }
            done += 1;
        }
        self.built = Some((done, disk.clone()));
        disk
    }
}

fn keep(disk: &mut Disk, writes: &[(u64, &[u8])], kept: Kept, rng: &mut Rng, summary: &mut ImageSummary) {
    if writes.is_empty() {
        return;
    }
    let chosen = rng.below(writes.len() as u64) as usize;
    let percent = rng.pick(&[10, 50, 90]);
    for (index, (offset, bytes)) in writes.iter().enumerate() {
        let is_whole = match kept {
            Kept::Nothing => false,
            Kept::All => true,
            Kept::Some => rng.percent(percent),
            Kept::AllButOne => index != chosen,
            Kept::One => index == chosen,
            Kept::Torn => {
                summary.torn += 1;
                tear(disk, *offset, bytes, rng, percent);
                continue;
            }
        };
        if is_whole {
            disk.write(*offset, bytes);
            summary.whole += 1;
        }
    }
}

/// Writes some of the sectors.
fn tear(disk: &mut Disk, offset: u64, bytes: &[u8], rng: &mut Rng, percent: u64) {
    for (index, block) in bytes.chunks(4096).enumerate() {
        let at = offset + index as u64 * 4096;
        if is_super_block(at, block) {
            if rng.percent(percent) {
                disk.write(at, block);
            }
            continue;
        }
        for (index, sector) in block.chunks(SECTOR_BYTES).enumerate() {
            if rng.percent(percent) {
                disk.write(at + (index * SECTOR_BYTES) as u64, sector);
            }
        }
    }
}

/// ext4, its journal and btrfs write their super blocks in place and count on it that this is atomic. They do not mount without them, which
/// would say nothing about the log.
fn is_super_block(offset: u64, block: &[u8]) -> bool {
    let holds = |at: usize, magic: &[u8]| block.get(at..at + magic.len()) == Some(magic);
    let is_ext4 = offset <= 1024 && holds(1024 - offset as usize + 0x38, &[0x53, 0xEF]);
    let is_journal = holds(0, &[0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4]);
    let is_btrfs = holds(0x40, b"_BHRfS_M");
    is_ext4 || is_journal || is_btrfs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8) -> Event {
        Event::Write { offset, bytes: vec![byte; 1024] }
    }

    fn cut(at: u64, kept: Kept) -> Cut {
        Cut { at, kept, seed: 3, lied_flushes: 0 }
    }

    #[test]
    fn what_a_flush_covers_is_in_every_image_and_what_none_covers_is_as_the_cut_says() {
        let events = vec![write(0, 1), Event::Flush, write(1024, 2), write(2048, 3), Event::Flush, write(0, 4)];
        let mut stream = Stream::of(Disk::new(8192), events);
        let byte = |disk: &Disk, at: u64| disk.read(at, 1)[0];
        for kept in Kept::EACH {
            let (disk, summary) = stream.image(&cut(4, kept));
            assert_eq!((byte(&disk, 0), summary.unflushed), (1, 2), "{kept:?}");
        }
        let (disk, _) = stream.image(&cut(4, Kept::Nothing));
        assert_eq!((byte(&disk, 1024), byte(&disk, 2048)), (0, 0));
        let (disk, _) = stream.image(&cut(3, Kept::All));
        assert_eq!((byte(&disk, 1024), byte(&disk, 2048)), (2, 0));
        let (disk, _) = stream.image(&cut(5, Kept::Nothing));
        assert_eq!((byte(&disk, 1024), byte(&disk, 2048)), (2, 3));
        let (disk, _) = stream.image(&cut(6, Kept::All));
        assert_eq!(byte(&disk, 0), 4);
    }

    #[test]
    fn the_same_seed_builds_the_same_image() {
        let events = (0..50).map(|number| write(number * 1024, number as u8 + 1)).collect();
        let mut stream = Stream::of(Disk::new(65536), events);
        for kept in Kept::EACH {
            let first = stream.image(&cut(50, kept)).0.read(0, 65536);
            assert_eq!(first, stream.image(&cut(50, kept)).0.read(0, 65536));
        }
    }
}
