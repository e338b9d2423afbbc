//! The format once more, written from `specs/format.md` and not from the code: what the log reads and writes is held against it.

pub(crate) const HEADER: usize = 4096;
pub(crate) const FRAME: usize = 24;
pub(crate) const FIRST_LSN: u64 = 4096;
const MARKER: u8 = 0xF7;
const SYSTEM: u16 = 0x4000;
const IGNORABLE: u16 = 0x8000;
pub(crate) const PADDING: u16 = 0xC001;
const LSN_LIMIT: u64 = 1 << 63;

/// What every checksum of a frame covers besides the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log_id: [u8; 16],
    pub(crate) segment: u64,
    pub(crate) epoch: u64,
}

/// The fields of a frame header, all of which may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) payload_checksum: u32,
    pub(crate) length: u32,
    pub(crate) frame_type: u16,
    pub(crate) flags: u8,
    pub(crate) marker: u8,
    pub(crate) witness: u64,
}

impl Fields {
    /// Those of a frame that is right.
    pub(crate) fn of(payload: &[u8], frame_type: u16, continues: bool, witness: u64) -> Fields {
        Fields {
            payload_checksum: crc32c::crc32c(payload),
            length: payload.len() as u32,
            frame_type,
            flags: u8::from(continues),
            marker: MARKER,
            witness,
        }
    }

    /// The header with the checksum that belongs to it at `lsn`.
    pub(crate) fn header(&self, place: Place, lsn: u64) -> [u8; FRAME] {
        let mut header = [0; FRAME];
        header[4..8].copy_from_slice(&self.payload_checksum.to_le_bytes());
        header[8..12].copy_from_slice(&self.length.to_le_bytes());
        header[12..14].copy_from_slice(&self.frame_type.to_le_bytes());
        header[14] = self.flags;
        header[15] = self.marker;
        header[16..24].copy_from_slice(&self.witness.to_le_bytes());
        let checksum = header_checksum(place, lsn, &header);
        header[..4].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

fn header_checksum(place: Place, lsn: u64, header: &[u8]) -> u32 {
    let mut covered = place.log_id.to_vec();
    covered.extend_from_slice(&place.segment.to_le_bytes());
    covered.extend_from_slice(&place.epoch.to_le_bytes());
    covered.extend_from_slice(&lsn.to_le_bytes());
    covered.extend_from_slice(&header[4..FRAME]);
    crc32c::crc32c(&covered)
}

/// A valid frame that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) lsn: u64,
    pub(crate) end: u64,
    pub(crate) fields: Fields,
    pub(crate) payload: &'a [u8],
}

impl Found<'_> {
    /// A reader shows it.
    pub(crate) fn is_record(&self) -> bool {
        self.fields.frame_type & SYSTEM == 0
    }

    /// This version may not pass over it.
    pub(crate) fn is_newer(&self) -> bool {
        !self.is_record() && self.fields.frame_type & IGNORABLE == 0
    }

    pub(crate) fn continues(&self) -> bool {
        self.fields.flags & 1 == 1
    }
}

fn number_at(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The header of a frame at `at` of a segment file with this base, if there is a valid one, whatever follows it.
pub(crate) fn header_at(file: &[u8], at: usize, place: Place, base: u64) -> Option<(u64, Fields)> {
    let header = file.get(at..at + FRAME)?;
    let lsn = base.checked_add((at - HEADER) as u64).filter(|lsn| *lsn < LSN_LIMIT)?;
    let fields = Fields {
        payload_checksum: number_at(header, 4, 4) as u32,
        length: number_at(header, 8, 4) as u32,
        frame_type: number_at(header, 12, 2) as u16,
        flags: header[14],
        marker: header[15],
        witness: number_at(header, 16, 8),
    };
    let is_valid = fields.marker == MARKER
        && fields.flags & !1 == 0
        && number_at(header, 0, 4) as u32 == header_checksum(place, lsn, header);
    is_valid.then_some((lsn, fields))
}

/// The frame at `at` of a segment file with this base, if there is a valid one.
pub(crate) fn frame_at(file: &[u8], at: usize, place: Place, base: u64) -> Option<Found<'_>> {
    let (lsn, fields) = header_at(file, at, place, base)?;
    let end = at + (FRAME + fields.length as usize).next_multiple_of(8);
    if end > file.len() {
        return None;
    }
    let is_padding = fields.frame_type == PADDING;
    let payload = &file[at + FRAME..at + FRAME + fields.length as usize];
    // Nothing behind the header of padding is looked at.
    let is_right = is_padding || fields.payload_checksum == crc32c::crc32c(payload);
    let is_padded = is_padding || file[at + FRAME + payload.len()..end].iter().all(|byte| *byte == 0);
    (is_right && is_padded).then_some(Found { lsn, end: base + (end - HEADER) as u64, fields, payload })
}

/// Makes the checksum of a block (a segment header or a control file) right again.
pub(crate) fn seal_block(block: &mut [u8]) {
    let checksum = crc32c::crc32c(&block[..HEADER - 4]);
    block[HEADER - 4..HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// The place of a segment by its header.
pub(crate) fn place_of(file: &[u8]) -> Place {
    Place {
        log_id: file[16..32].try_into().expect("16 bytes"),
        segment: number_at(file, 32, 8),
        epoch: number_at(file, 40, 8),
    }
}

/// The base LSN of a segment by its header.
pub(crate) fn base_of(file: &[u8]) -> u64 {
    number_at(file, 48, 8)
}
