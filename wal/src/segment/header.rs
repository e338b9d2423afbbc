//! The header block of a segment. The layout is drawn in `specs/format.md`.

use byteorder::{ByteOrder, LittleEndian};

use crate::lsn::Lsn;
use crate::record::{Identity, LogId};

/// Bytes in front of the first frame.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// The version of the format that this crate writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

const BLOCK: usize = HEADER_BYTES as usize;
const CHECKSUM_AT: usize = BLOCK - 4;
const MAGIC: [u8; 8] = *b"\x89WAL\r\n\x1a\n";

/// A block of the size that headers and the control file have.
pub(crate) type Block = [u8; BLOCK];

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: LogId,
    pub(crate) segment: u64,
    pub(crate) epoch: u64,
    pub(crate) base: Lsn,
    pub(crate) predecessor_end: Lsn,
    pub(crate) predecessor_checksum: u32,
    pub(crate) witness: Lsn,
    pub(crate) limit: Lsn,
    pub(crate) sealed_end: Option<Lsn>,
    pub(crate) created_micros: u64,
}

impl SegmentHeader {
    pub(crate) fn identity(&self) -> Identity {
        Identity::new(self.log_id, self.segment, self.epoch)
    }

    /// The offset in the file of the frame at `lsn`.
    pub(crate) fn offset_of(&self, lsn: Lsn) -> u64 {
        HEADER_BYTES + lsn.distance_from(self.base)
    }

    pub(crate) fn encode(&self) -> Block {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&MAGIC);
        LittleEndian::write_u32(&mut block[8..12], FORMAT_VERSION);
        block[16..32].copy_from_slice(&self.log_id.0);
        LittleEndian::write_u64(&mut block[32..40], self.segment);
        LittleEndian::write_u64(&mut block[40..48], self.epoch);
        LittleEndian::write_u64(&mut block[48..56], self.base.get());
        LittleEndian::write_u64(&mut block[56..64], self.predecessor_end.get());
        LittleEndian::write_u32(&mut block[64..68], self.predecessor_checksum);
        LittleEndian::write_u64(&mut block[72..80], self.witness.get());
        LittleEndian::write_u64(&mut block[80..88], self.limit.get());
        LittleEndian::write_u64(&mut block[88..96], self.sealed_end.map_or(0, Lsn::get));
        LittleEndian::write_u64(&mut block[96..104], self.created_micros);
        seal_block(&mut block);
        block
    }
}

/// What the first block of a segment file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderState {
    Valid(SegmentHeader),
    /// Nothing but zeros: prepared and never used.
    Blank,
    /// The checksum is right and the version or a required feature is not known.
    Newer(String),
    /// Neither of these. The sentence says what is wrong.
    Damaged(String),
}

/// Decodes the first block of a segment file. `bytes` is shorter than a block if the file is.
pub(crate) fn decode(bytes: &[u8]) -> HeaderState {
    if bytes.iter().all(|&byte| byte == 0) {
        return HeaderState::Blank;
    }
    let block = match check_block(bytes, &MAGIC) {
        Ok(block) => block,
        Err(BlockError::Newer(why)) => return HeaderState::Newer(why),
        Err(BlockError::Damaged(why)) => return HeaderState::Damaged(why),
    };
    let lsn = |at: usize| Lsn::new(LittleEndian::read_u64(&block[at..at + 8]));
    let header = SegmentHeader {
        log_id: LogId(block[16..32].try_into().expect("16 bytes")),
        segment: LittleEndian::read_u64(&block[32..40]),
        epoch: LittleEndian::read_u64(&block[40..48]),
        base: lsn(48),
        predecessor_end: lsn(56),
        predecessor_checksum: LittleEndian::read_u32(&block[64..68]),
        witness: lsn(72),
        limit: lsn(80),
        sealed_end: Some(lsn(88)).filter(|&end| end > Lsn::ZERO),
        created_micros: LittleEndian::read_u64(&block[96..104]),
    };
    let is_ordered = header.base >= header.predecessor_end
        && header.limit >= header.base
        && header.limit <= Lsn::LIMIT
        && header.base.get().is_multiple_of(8)
        && header.limit.get().is_multiple_of(8)
        && header.sealed_end.is_none_or(|end| end >= header.base && end <= header.limit);
    if is_ordered {
        HeaderState::Valid(header)
    } else {
        HeaderState::Damaged("its LSNs contradict each other".to_owned())
    }
}

/// Why a block with magic, version and checksum was not accepted.
pub(crate) enum BlockError {
    Newer(String),
    Damaged(String),
}

/// Writes the checksum of a block into its last four bytes.
pub(crate) fn seal_block(block: &mut Block) {
    let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
    LittleEndian::write_u32(&mut block[CHECKSUM_AT..], checksum);
}

/// Checks magic, checksum, version and features, in the order that tells damage and a newer format apart.
pub(crate) fn check_block<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<&'a Block, BlockError> {
    let damaged = |why: String| Err(BlockError::Damaged(why));
    let Some(block) = bytes.first_chunk::<BLOCK>() else {
        return damaged(format!("it has {} bytes, its header needs {BLOCK}", bytes.len()));
    };
    if block[..8] != magic[..] {
        return damaged("it does not start with the magic bytes".to_owned());
    }
    let stored = LittleEndian::read_u32(&block[CHECKSUM_AT..]);
    let computed = crc32c::crc32c(&block[..CHECKSUM_AT]);
    if stored != computed {
        return damaged(format!("its header checksum is {stored:08x}, its bytes give {computed:08x}"));
    }
    let version = LittleEndian::read_u32(&block[8..12]);
    let features = LittleEndian::read_u32(&block[12..16]);
    if version != FORMAT_VERSION {
        return Err(BlockError::Newer(format!(
            "it has format version {version}, this crate knows version {FORMAT_VERSION}"
        )));
    }
    if features != 0 {
        return Err(BlockError::Newer(format!("it requires unknown features {features:#x}")));
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: LogId([9; 16]),
            segment: 4,
            epoch: 2,
            base: Lsn::new(8192),
            predecessor_end: Lsn::new(8000),
            predecessor_checksum: 0xDEAD_BEEF,
            witness: Lsn::new(7000),
            limit: Lsn::new(16384),
            sealed_end: Some(Lsn::new(9000)),
            created_micros: 12,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(decode(&header().encode()), HeaderState::Valid(header()));
    }

    #[test]
    fn every_changed_bit_of_a_header_is_damage_and_never_a_newer_format() {
        let block = header().encode();
        for bit in 0..block.len() * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&damaged), HeaderState::Damaged(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_not_corruption() {
        let mut block = header().encode();
        LittleEndian::write_u32(&mut block[8..12], 2);
        seal_block(&mut block);
        assert!(matches!(decode(&block), HeaderState::Newer(_)));
    }

    #[test]
    fn a_right_checksum_makes_no_header_of_a_block_without_its_magic() {
        let mut block = header().encode();
        block[..8].copy_from_slice(b"\x89WLC\r\n\x1a\n");
        seal_block(&mut block);
        assert!(matches!(decode(&block), HeaderState::Damaged(_)));
    }

    #[test]
    fn lsns_that_contradict_each_other_are_damage() {
        let lsn = Lsn::new;
        let contradictions = [
            SegmentHeader { predecessor_end: lsn(8200), ..header() },
            SegmentHeader { limit: lsn(8184), sealed_end: None, ..header() },
            SegmentHeader { limit: Lsn::LIMIT.advance(8), sealed_end: None, ..header() },
            SegmentHeader { base: lsn(8193), ..header() },
            SegmentHeader { limit: lsn(16385), ..header() },
            SegmentHeader { sealed_end: Some(lsn(8184)), ..header() },
            SegmentHeader { sealed_end: Some(lsn(16392)), ..header() },
        ];
        for header in contradictions {
            assert!(matches!(decode(&header.encode()), HeaderState::Damaged(_)), "{header:?}");
        }
    }

    #[test]
    fn zeros_and_an_empty_file_are_blank() {
        assert_eq!(decode(&[0; BLOCK]), HeaderState::Blank);
        assert_eq!(decode(&[]), HeaderState::Blank);
        assert!(matches!(decode(&[1]), HeaderState::Damaged(_)));
    }
}
