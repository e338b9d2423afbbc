//! Frame to bytes and back. No I/O. The layout is drawn in `specs/format.md`.
//!
//! A frame is written in two steps, because its witness is known only when its group is written: the appender encodes it
//! with its payload checksum (outside any lock that matters), and the leader of the group *stamps* it with the witness and the header
//! checksum, which covers identity, LSN and payload checksum.

use byteorder::{ByteOrder, LittleEndian};

use crate::buffer::Sink;
use crate::lsn::Lsn;
use crate::museum::{Bug, Bugs};

/// Bytes of a frame in front of its payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;
/// Frames start at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;

const MARKER: u8 = 0xF7;
const FLAG_CONTINUES: u8 = 1;
const ZEROS: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));

/// The type of a record, chosen by the user: 0 to `0x3FFF`, and a bit that says that a reader that does not know the type may
/// ignore the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u16", into = "u16"))]
pub struct RecordType(u16);

impl From<RecordType> for u16 {
    /// The number, with bit 15 set if the record may be ignored.
    fn from(record_type: RecordType) -> u16 {
        record_type.0
    }
}

impl TryFrom<u16> for RecordType {
    type Error = ReservedRecordType;

    /// The inverse of the conversion to `u16`.
    fn try_from(bits: u16) -> Result<RecordType, ReservedRecordType> {
        if bits & RecordType::SYSTEM == 0 { Ok(RecordType(bits)) } else { Err(ReservedRecordType(bits)) }
    }
}

/// A number that stands for a frame of the log itself and so is no type of a user's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRecordType(u16);

impl std::fmt::Display for ReservedRecordType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record type {:#06x} belongs to the log itself; a user's is at most {:#06x}", self.0, RecordType::MAX)
    }
}

impl std::error::Error for ReservedRecordType {}

impl RecordType {
    /// Type 0.
    pub const DEFAULT: RecordType = RecordType(0);
    /// The largest type a user can choose.
    pub const MAX: u16 = 0x3FFF;

    pub(crate) const SYSTEM: u16 = 0x4000;
    pub(crate) const IGNORABLE: u16 = 0x8000;
    pub(crate) const PADDING: RecordType = RecordType(Self::IGNORABLE | Self::SYSTEM | 1);

    /// The type with this number; `None` if it is above [`RecordType::MAX`].
    pub const fn new(number: u16) -> Option<RecordType> {
        if number <= Self::MAX { Some(RecordType(number)) } else { None }
    }

    /// The same type with the bit set that says: who does not know it may ignore the record.
    #[must_use]
    pub const fn ignorable(self) -> RecordType {
        RecordType(self.0 | Self::IGNORABLE)
    }

    /// Whether a reader that does not know the type may ignore the record.
    pub const fn is_ignorable(self) -> bool {
        self.0 & Self::IGNORABLE != 0
    }

    /// The number, without the bit for "may be ignored".
    pub const fn get(self) -> u16 {
        self.0 & !Self::IGNORABLE
    }

    pub(crate) const fn from_bits(bits: u16) -> RecordType {
        RecordType(bits)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    pub(crate) const fn is_system(self) -> bool {
        self.0 & Self::SYSTEM != 0
    }
}

/// What identifies a log: random, the same in its control file and all its segments. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub(crate) [u8; 16]);

impl LogId {
    /// The id with these bytes, as another file of the same program names it.
    pub const fn new(bytes: [u8; 16]) -> LogId {
        LogId(bytes)
    }

    /// The sixteen bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogId({self})")
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for LogId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The part of a frame's identity that is the same for a whole segment, folded into a checksum seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    seed: u32,
    bugs: Bugs,
}

impl Identity {
    pub(crate) fn new(log_id: LogId, segment: u64, epoch: u64) -> Identity {
        let bugs = Bugs::of_log(log_id.0);
        let (segment, epoch) = if bugs.has(Bug::StaleRecordsAccepted) { (0, 0) } else { (segment, epoch) };
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&log_id.0);
        LittleEndian::write_u64(&mut bytes[16..24], segment);
        LittleEndian::write_u64(&mut bytes[24..32], epoch);
        Identity { seed: crc32c::crc32c(&bytes), bugs }
    }

    #[inline]
    fn checksum(self, lsn: Lsn, frame: &[u8]) -> u32 {
        let mut bytes = [0; 8 + FRAME_HEADER_BYTES - 4];
        let lsn = if self.bugs.has(Bug::StaleRecordsAccepted) { Lsn::ZERO } else { lsn };
        LittleEndian::write_u64(&mut bytes[..8], lsn.get());
        bytes[8..].copy_from_slice(&frame[4..FRAME_HEADER_BYTES]);
        crc32c::crc32c_append(self.seed, &bytes)
    }
}

/// Bytes a frame with this payload takes in the log.
pub(crate) const fn frame_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGN)
}

/// A decoded frame header whose checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) checksum: u32,
    pub(crate) payload_checksum: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) record_type: RecordType,
    pub(crate) continues: bool,
    pub(crate) witness: Lsn,
}

impl FrameHeader {
    /// Bytes of the whole frame with its padding.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes as usize) as u64
    }

    pub(crate) fn is_padding(&self) -> bool {
        self.record_type == RecordType::PADDING
    }

    /// Whether `body`, all bytes of the frame behind the header, is what was written.
    #[inline]
    pub(crate) fn body_is_valid(&self, body: &[u8]) -> bool {
        self.is_padding() || {
            let (payload, padding) = body.split_at(self.payload_bytes as usize);
            padding.iter().all(|&byte| byte == 0) && crc32c::crc32c(payload) == self.payload_checksum
        }
    }
}

/// The checksum of a payload, to be computed before the frame's place is known.
pub(crate) fn payload_checksum(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload)
}

/// Appends a frame without witness and header checksum to `group`. [`stamp`] completes it.
pub(crate) fn encode(
    group: &mut impl Sink,
    record_type: RecordType,
    continues: bool,
    payload: &[u8],
    payload_checksum: u32,
) {
    let payload_bytes = u32::try_from(payload.len()).expect("a payload fits a segment, and a segment is at most 1 GiB");
    let mut header = [0; FRAME_HEADER_BYTES];
    LittleEndian::write_u32(&mut header[4..8], payload_checksum);
    LittleEndian::write_u32(&mut header[8..12], payload_bytes);
    LittleEndian::write_u16(&mut header[12..14], record_type.bits());
    header[14] = if continues { FLAG_CONTINUES } else { 0 };
    header[15] = MARKER;
    group.put(&header);
    group.put(payload);
    let padding = frame_bytes(payload.len()) - FRAME_HEADER_BYTES - payload.len();
    group.put(&ZEROS[..padding]);
}

/// Appends padding of `frame_bytes` in all, a multiple of 8 and at least 24, to `group`. [`stamp`] completes it.
pub(crate) fn encode_padding(group: &mut impl Sink, frame_bytes: usize) {
    let content = vec![0; frame_bytes - FRAME_HEADER_BYTES];
    encode(group, RecordType::PADDING, false, &content, 0);
}

/// A complete padding frame header that fills `frame_bytes`, a multiple of 8 and at least 24, at `lsn`. What follows it up to
/// `frame_bytes` is not checked.
pub(crate) fn padding_header(identity: Identity, lsn: Lsn, witness: Lsn, frame_bytes: u64) -> [u8; FRAME_HEADER_BYTES] {
    assert!(
        frame_bytes >= FRAME_HEADER_BYTES as u64 && frame_bytes.is_multiple_of(FRAME_ALIGN as u64),
        "padding of {frame_bytes} bytes is no frame"
    );
    let payload_bytes = u32::try_from(frame_bytes - FRAME_HEADER_BYTES as u64).expect("padding lies in one segment");
    let mut header = [0; FRAME_HEADER_BYTES];
    LittleEndian::write_u32(&mut header[8..12], payload_bytes);
    LittleEndian::write_u16(&mut header[12..14], RecordType::PADDING.bits());
    header[15] = MARKER;
    stamp_one(&mut header, identity, lsn, witness);
    header
}

fn stamp_one(frame: &mut [u8], identity: Identity, lsn: Lsn, witness: Lsn) -> u32 {
    LittleEndian::write_u64(&mut frame[16..24], witness.get());
    let checksum = identity.checksum(lsn, frame);
    LittleEndian::write_u32(&mut frame[..4], checksum);
    checksum
}

/// Gives every frame in `frames`, the first of which has LSN `first`, its witness and header checksum. Returns the last frame's
/// checksum; `None` if there is no frame.
pub(crate) fn stamp(frames: &mut [u8], identity: Identity, first: Lsn, witness: Lsn) -> Option<u32> {
    let mut last = None;
    let mut at = 0;
    while at < frames.len() {
        let frame = &mut frames[at..];
        let payload_bytes = LittleEndian::read_u32(&frame[8..12]) as usize;
        last = Some(stamp_one(frame, identity, first.advance(at as u64), witness));
        at += frame_bytes(payload_bytes);
    }
    debug_assert_eq!(at, frames.len(), "frames fill their group exactly");
    last
}

/// The bytes of the first frame in `frames`.
pub(crate) fn first_frame_bytes(frames: &[u8]) -> u64 {
    frame_bytes(LittleEndian::read_u32(&frames[8..12]) as usize) as u64
}

/// Gives one complete frame a new identity, keeping its witness. Returns its new checksum.
pub(crate) fn restamp(frame: &mut [u8], identity: Identity, lsn: Lsn) -> u32 {
    let witness = Lsn::new(LittleEndian::read_u64(&frame[16..24]));
    stamp_one(frame, identity, lsn, witness)
}

/// Ends a batch at this frame. It must be stamped again.
pub(crate) fn clear_continues(frame: &mut [u8]) {
    frame[14] &= !FLAG_CONTINUES;
}

/// Decodes the header of a frame at `lsn`, `None` if the bytes are no frame of this identity at this LSN. `bytes` holds at least
/// [`FRAME_HEADER_BYTES`].
#[inline]
pub(crate) fn decode_header(bytes: &[u8], identity: Identity, lsn: Lsn) -> Option<FrameHeader> {
    if bytes[15] != MARKER || bytes[14] & !FLAG_CONTINUES != 0 {
        return None;
    }
    let checksum = LittleEndian::read_u32(&bytes[..4]);
    if identity.checksum(lsn, bytes) != checksum {
        return None;
    }
    Some(FrameHeader {
        checksum,
        payload_checksum: LittleEndian::read_u32(&bytes[4..8]),
        payload_bytes: LittleEndian::read_u32(&bytes[8..12]),
        record_type: RecordType::from_bits(LittleEndian::read_u16(&bytes[12..14])),
        continues: bytes[14] & FLAG_CONTINUES != 0,
        witness: Lsn::new(LittleEndian::read_u64(&bytes[16..24])),
    })
}

/// The header checksum that stands in the first bytes of what should be a frame at `lsn`, and the one that its bytes give. For a report
/// of damage; nothing else is said about the bytes, of which there are at least [`FRAME_HEADER_BYTES`].
pub(crate) fn header_checksums(bytes: &[u8], identity: Identity, lsn: Lsn) -> (u32, u32) {
    (LittleEndian::read_u32(&bytes[..4]), identity.checksum(lsn, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LSN: Lsn = Lsn::FIRST;
    const WITNESS: Lsn = Lsn::new(77);

    fn identity() -> Identity {
        Identity::new(LogId([7; 16]), 3, 5)
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, RecordType::DEFAULT, false, payload, payload_checksum(payload));
        stamp(&mut bytes, identity(), LSN, WITNESS);
        bytes
    }

    fn is_valid(bytes: &[u8], identity: Identity, lsn: Lsn) -> bool {
        decode_header(bytes, identity, lsn).is_some_and(|header| {
            header.frame_bytes() <= bytes.len() as u64
                && header.body_is_valid(&bytes[FRAME_HEADER_BYTES..header.frame_bytes() as usize])
        })
    }

    #[test]
    fn an_empty_record_is_a_record() {
        let bytes = frame(b"");
        assert_eq!(bytes.len(), FRAME_HEADER_BYTES);
        assert!(is_valid(&bytes, identity(), LSN));
    }

    #[test]
    fn every_changed_bit_of_a_frame_is_found() {
        let bytes = frame(b"a payload of odd length");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_valid(&damaged, identity(), LSN), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_another_log_segment_epoch_or_lsn_is_rejected() {
        let bytes = frame(b"payload");
        assert!(!is_valid(&bytes, Identity::new(LogId([8; 16]), 3, 5), LSN));
        assert!(!is_valid(&bytes, Identity::new(LogId([7; 16]), 4, 5), LSN));
        assert!(!is_valid(&bytes, Identity::new(LogId([7; 16]), 3, 6), LSN));
        assert!(!is_valid(&bytes, identity(), LSN.advance(8)));
    }

    #[test]
    fn zeros_are_no_frame_whatever_the_identity() {
        for seed in 0..10_000_u64 {
            let identity = Identity::new(LogId([0; 16]), seed, seed);
            assert!(decode_header(&[0; FRAME_HEADER_BYTES], identity, Lsn::new(seed * 8)).is_none());
        }
    }

    #[test]
    fn a_group_is_stamped_frame_by_frame() {
        let mut group = Vec::new();
        for payload in [&b"one"[..], b"", b"three"] {
            encode(&mut group, RecordType::DEFAULT, false, payload, payload_checksum(payload));
        }
        let last = stamp(&mut group, identity(), LSN, WITNESS);
        let mut at = 0;
        let mut count = 0;
        let mut checksum = None;
        while at < group.len() {
            let header = decode_header(&group[at..], identity(), LSN.advance(at as u64)).expect("stamped");
            assert_eq!(header.witness, WITNESS);
            checksum = Some(header.checksum);
            at += header.frame_bytes() as usize;
            count += 1;
        }
        assert_eq!((count, checksum), (3, last));
    }
}
