//! Bytes to frames, or to the reason why there is no further frame. The one parser of the log: recovery, readers, rewriting,
//! dumping and verifying all drive it. No I/O.

use crate::lsn::Lsn;
use crate::record::{FRAME_HEADER_BYTES, FrameHeader, Identity, decode_header};

/// Walks the frames of one segment.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    identity: Identity,
    lsn: Lsn,
    end: Lsn,
}

/// What one look at the bytes gave.
#[derive(Debug)]
pub(crate) enum Step {
    /// A valid frame at this LSN; the scanner now stands behind it.
    Frame(Lsn, FrameHeader),
    /// The window must hold at least this many bytes, counted from the scanner's LSN.
    Need(usize),
    /// There is no valid frame at the scanner's LSN.
    Stop(Stop),
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end that the scanner was given.
    AtEnd,
    /// Zeros where a frame header would stand: space that was never written.
    Zeros,
    /// Bytes that are no frame of this segment at this LSN.
    Damaged(Flaw),
    /// A frame of the log itself that this version does not know and may not ignore.
    Newer(u16),
}

/// What is wrong with the bytes at which a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Header,
    Payload,
    PastEnd,
}

impl Flaw {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Flaw::Header => "the bytes are no frame of this log at this LSN: the header checksum does not match",
            Flaw::Payload => "the payload does not match its checksum",
            Flaw::PastEnd => "the frame runs past the end of its segment",
        }
    }
}

impl Scanner {
    /// A scanner that stands at `lsn` and accepts no frame that reaches past `end`.
    pub(crate) fn new(identity: Identity, lsn: Lsn, end: Lsn) -> Scanner {
        assert!(lsn <= end, "a scan from {lsn} to {end} runs backwards");
        Scanner { identity, lsn, end }
    }

    /// The LSN of the next frame.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    pub(crate) fn end(&self) -> Lsn {
        self.end
    }

    /// Moves the end further on, as the log grows.
    pub(crate) fn extend_to(&mut self, end: Lsn) {
        self.end = self.end.max(end);
    }

    /// Looks at `window`, the bytes of the segment from the scanner's LSN on (as many as the caller has).
    #[inline(always)]
    pub(crate) fn step(&mut self, window: &[u8]) -> Step {
        let room = self.end.distance_from(self.lsn);
        if room == 0 {
            return Step::Stop(Stop::AtEnd);
        }
        let header_bytes = room.min(FRAME_HEADER_BYTES as u64) as usize;
        if window.len() < header_bytes {
            return Step::Need(header_bytes);
        }
        let Some(header) = self.header(&window[..header_bytes]) else {
            let is_blank = window[..header_bytes].iter().all(|&byte| byte == 0);
            return Step::Stop(if is_blank { Stop::Zeros } else { Stop::Damaged(Flaw::Header) });
        };
        let frame_bytes = header.frame_bytes();
        if frame_bytes > room {
            return Step::Stop(Stop::Damaged(Flaw::PastEnd));
        }
        let frame_bytes = frame_bytes as usize;
        if window.len() < frame_bytes {
            return Step::Need(frame_bytes);
        }
        if !header.body_is_valid(&window[FRAME_HEADER_BYTES..frame_bytes]) {
            return Step::Stop(Stop::Damaged(Flaw::Payload));
        }
        if header.record_type.is_system() && !header.is_padding() && !header.record_type.is_ignorable() {
            return Step::Stop(Stop::Newer(header.record_type.bits()));
        }
        let lsn = self.lsn;
        self.lsn = lsn.advance(frame_bytes as u64);
        Step::Frame(lsn, header)
    }

    #[inline]
    fn header(&self, bytes: &[u8]) -> Option<FrameHeader> {
        if bytes.len() < FRAME_HEADER_BYTES {
            return None;
        }
        decode_header(bytes, self.identity, self.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{LogId, RecordType, encode, padding_header, payload_checksum, stamp};

    fn identity() -> Identity {
        Identity::new(LogId([1; 16]), 1, 1)
    }

    fn group(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            encode(&mut bytes, RecordType::DEFAULT, false, payload, payload_checksum(payload));
        }
        stamp(&mut bytes, identity(), Lsn::FIRST, Lsn::ZERO);
        bytes
    }

    fn scan(bytes: &[u8]) -> (usize, Stop) {
        let mut scanner = Scanner::new(identity(), Lsn::FIRST, Lsn::FIRST.advance(bytes.len() as u64));
        let mut frames = 0;
        loop {
            let at = scanner.lsn().distance_from(Lsn::FIRST) as usize;
            match scanner.step(&bytes[at..]) {
                Step::Frame(..) => frames += 1,
                Step::Need(_) => unreachable!("the window is the whole segment"),
                Step::Stop(stop) => return (frames, stop),
            }
        }
    }

    #[test]
    fn frames_up_to_the_end_are_found() {
        assert_eq!(scan(&group(&[b"a", b"", b"ccc"])), (3, Stop::AtEnd));
    }

    #[test]
    fn a_tail_of_zeros_is_a_clean_end() {
        let mut bytes = group(&[b"a"]);
        bytes.resize(bytes.len() + 100, 0);
        assert_eq!(scan(&bytes), (1, Stop::Zeros));
    }

    #[test]
    fn a_tail_of_fewer_bytes_than_a_header_is_an_end_if_it_is_zero_and_damage_if_not() {
        let mut bytes = group(&[b"a"]);
        bytes.resize(bytes.len() + 8, 0);
        assert_eq!(scan(&bytes), (1, Stop::Zeros));
        *bytes.last_mut().expect("not empty") = 1;
        assert_eq!(scan(&bytes), (1, Stop::Damaged(Flaw::Header)));
    }

    #[test]
    fn a_length_bomb_is_stopped_before_any_allocation() {
        let header = padding_header(identity(), Lsn::FIRST, Lsn::ZERO, 1 << 30);
        assert_eq!(scan(&header), (0, Stop::Damaged(Flaw::PastEnd)));
    }

    #[test]
    fn a_payload_that_contains_a_valid_frame_is_one_record() {
        let inner = group(&[b"inner"]);
        assert_eq!(scan(&group(&[&inner, b"next"])), (2, Stop::AtEnd));
    }

    #[test]
    fn an_unknown_frame_of_the_log_is_refused_unless_it_may_be_ignored() {
        for (bits, expected) in [(0x4002, (0, Stop::Newer(0x4002))), (0xC002, (1, Stop::AtEnd))] {
            let mut bytes = Vec::new();
            encode(&mut bytes, RecordType::from_bits(bits), false, b"x", payload_checksum(b"x"));
            stamp(&mut bytes, identity(), Lsn::FIRST, Lsn::ZERO);
            assert_eq!(scan(&bytes), expected);
        }
    }

    #[test]
    fn the_bytes_behind_a_padding_header_are_not_looked_at() {
        let mut bytes = padding_header(identity(), Lsn::FIRST, Lsn::ZERO, 64).to_vec();
        bytes.resize(64, 0xEE);
        assert_eq!(scan(&bytes), (1, Stop::AtEnd));
    }
}
