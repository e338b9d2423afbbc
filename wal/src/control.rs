//! The control file: identity of the log, where it starts, whether it was closed cleanly. The layout is drawn in
//! `specs/format.md`. It is only ever replaced as a whole.

use byteorder::{ByteOrder, LittleEndian};

use crate::lsn::Lsn;
use crate::record::LogId;
use crate::segment::header::{Block, BlockError, FORMAT_VERSION, check_block, seal_block};

const MAGIC: [u8; 8] = *b"\x89WLC\r\n\x1a\n";
const STATE_OPEN: u8 = 1;
const STATE_CLOSED: u8 = 2;

/// Where a cleanly closed log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CleanEnd {
    pub(crate) segment: u64,
    pub(crate) lsn: Lsn,
    pub(crate) checksum: u32,
}

/// The content of the control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) log_id: LogId,
    pub(crate) sequence: u64,
    pub(crate) start_segment: u64,
    pub(crate) start: Lsn,
    pub(crate) opened_segment: u64,
    pub(crate) witness: Lsn,
    pub(crate) checkpoint: Option<Lsn>,
    pub(crate) clean: Option<CleanEnd>,
    pub(crate) written_micros: u64,
}

impl Control {
    pub(crate) fn encode(&self) -> Block {
        let mut block = [0; size_of::<Block>()];
        block[..8].copy_from_slice(&MAGIC);
        LittleEndian::write_u32(&mut block[8..12], FORMAT_VERSION);
        block[16..32].copy_from_slice(&self.log_id.0);
        LittleEndian::write_u64(&mut block[32..40], self.sequence);
        LittleEndian::write_u64(&mut block[40..48], self.start_segment);
        LittleEndian::write_u64(&mut block[48..56], self.start.get());
        LittleEndian::write_u64(&mut block[56..64], self.opened_segment);
        LittleEndian::write_u64(&mut block[64..72], self.witness.get());
        LittleEndian::write_u64(&mut block[72..80], self.checkpoint.map_or(0, Lsn::get));
        block[80] = if self.clean.is_some() { STATE_CLOSED } else { STATE_OPEN };
        if let Some(end) = self.clean {
            LittleEndian::write_u64(&mut block[88..96], end.segment);
            LittleEndian::write_u64(&mut block[96..104], end.lsn.get());
            LittleEndian::write_u32(&mut block[104..108], end.checksum);
        }
        LittleEndian::write_u64(&mut block[112..120], self.written_micros);
        seal_block(&mut block);
        block
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Control, BlockError> {
        let block = check_block(bytes, &MAGIC)?;
        if bytes.len() != block.len() {
            let why = format!("it has {} bytes, not {}", bytes.len(), block.len());
            return Err(BlockError::Damaged(why));
        }
        let word = |at: usize| LittleEndian::read_u64(&block[at..at + 8]);
        let clean = match block[80] {
            STATE_OPEN => None,
            STATE_CLOSED => Some(CleanEnd {
                segment: word(88),
                lsn: Lsn::new(word(96)),
                checksum: LittleEndian::read_u32(&block[104..108]),
            }),
            other => return Err(BlockError::Damaged(format!("it has the unknown state {other}"))),
        };
        let (start, witness) = (Lsn::new(word(48)), Lsn::new(word(64)));
        if start > witness {
            // The log starts at what was durable, so nothing would be found behind such a start.
            return Err(BlockError::Damaged("its LSNs contradict each other".to_owned()));
        }
        Ok(Control {
            log_id: LogId(block[16..32].try_into().expect("16 bytes")),
            sequence: word(32),
            start_segment: word(40),
            start,
            opened_segment: word(56),
            witness,
            checkpoint: Some(Lsn::new(word(72))).filter(|&lsn| lsn > Lsn::ZERO),
            clean,
            written_micros: word(112),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        Control {
            log_id: LogId([3; 16]),
            sequence: 9,
            start_segment: 2,
            start: Lsn::new(8192),
            opened_segment: 4,
            witness: Lsn::new(9000),
            checkpoint: None,
            clean: None,
            written_micros: 1,
        }
    }

    #[test]
    fn what_is_written_is_read_back_open_and_closed() {
        let open = Control { checkpoint: Some(Lsn::new(8200)), ..control() };
        let end = CleanEnd { segment: 4, lsn: Lsn::new(9000), checksum: 5 };
        let closed = Control { clean: Some(end), checkpoint: None, ..open };
        for control in [open, closed] {
            assert_eq!(Control::decode(&control.encode()).ok(), Some(control));
        }
    }

    #[test]
    fn every_changed_bit_is_damage() {
        let block = control().encode();
        for bit in 0..block.len() * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Control::decode(&damaged), Err(BlockError::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_file_that_is_longer_or_shorter_than_the_block_is_damage() {
        let block = control().encode();
        for bytes in [&[&block[..], &[0]].concat()[..], &block[..block.len() - 1], &[]] {
            assert!(matches!(Control::decode(bytes), Err(BlockError::Damaged(_))), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_state_that_does_not_exist_and_a_start_past_the_witness_are_damage() {
        for state in [0, 3, 0xFF] {
            let mut block = control().encode();
            block[80] = state;
            seal_block(&mut block);
            assert!(matches!(Control::decode(&block), Err(BlockError::Damaged(_))), "state {state}");
        }
        let past = Control { start: Lsn::new(9008), ..control() };
        assert!(matches!(Control::decode(&past.encode()), Err(BlockError::Damaged(_))));
    }
}
