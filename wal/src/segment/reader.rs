//! Reads one segment: drives the scanner over a file.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::{LogDir, LogFile};
use crate::gentle::{Haste, STEP_BYTES};
use crate::last_written::Following;
use crate::lsn::Lsn;
use crate::record::{FRAME_HEADER_BYTES, FrameHeader};
use crate::scan::{Flaw, Scanner, Step, Stop};
use crate::segment::header::{HEADER_BYTES, HeaderState, SegmentHeader, decode};
use crate::segment::name;

/// Bytes read at once. Measured: 256 KiB reach twice the cold rate of 64 KiB.
const READ_BYTES_MAX: usize = 256 << 10;
/// Bytes read first, twice as many each time after that: many segments and many readers end early, and a buffer costs its zeros.
const READ_BYTES_FIRST: usize = 16 << 10;

/// A segment file with its header, open for reading.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) file: LogFile,
    pub(crate) file_bytes: u64,
    pub(crate) header: HeaderState,
}

impl SegmentFile {
    /// Opens a segment and reads its header; `None` if there is no such file.
    pub(crate) fn open(dir: &LogDir, number: u64) -> Result<Option<SegmentFile>> {
        SegmentFile::open_for(dir, number, Haste::Full)
    }

    /// As [`SegmentFile::open`], for reading in the given haste. The header is the first thing that is read, and if Linux reads ahead of that
    /// it goes on doing so, whatever it is told later.
    pub(crate) fn open_for(dir: &LogDir, number: u64, haste: Haste) -> Result<Option<SegmentFile>> {
        let Some(file) = dir.find_file(&name::segment(number), OpenMode::Read)? else { return Ok(None) };
        if haste == Haste::Gentle {
            file.read_no_further()?;
        }
        let file_bytes = file.len()?;
        let mut block = [0; HEADER_BYTES as usize];
        let read = file.read_at(&mut block, 0)?;
        let header = decode(&block[..read]);
        Ok(Some(SegmentFile { file, file_bytes, header }))
    }
}

/// A valid frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) header: FrameHeader,
    /// The whole frame: header, payload, padding.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + self.header.payload_bytes as usize]
    }

    pub(crate) fn end(&self) -> Lsn {
        self.lsn.advance(self.bytes.len() as u64)
    }
}

/// What stands at the position of a [`SegmentReader`].
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Frame(Frame<'a>),
    Stop(Stop),
}

/// Iterates over the frames of one segment.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: LogFile,
    header: SegmentHeader,
    scanner: Scanner,
    /// Grows and never shrinks, so that no byte is zeroed twice. What counts of it are the first `held` bytes.
    buffer: Vec<u8>,
    held: usize,
    /// The LSN of the first byte in `buffer`.
    buffer_lsn: Lsn,
    /// How much the next read asks for.
    read_bytes: usize,
    read_bytes_max: usize,
    /// Asked before the file is read.
    last_written: Option<Arc<Following>>,
}

impl SegmentReader {
    /// A reader of the frames from `from`, which must be the LSN of a frame, to `end`.
    pub(crate) fn new(file: LogFile, header: SegmentHeader, from: Lsn, end: Lsn) -> SegmentReader {
        assert!(from >= header.base, "LSN {from} lies before the segment's base {}", header.base);
        SegmentReader {
            file,
            header,
            scanner: Scanner::new(header.identity(), from, end),
            buffer: Vec::new(),
            held: 0,
            buffer_lsn: from,
            read_bytes: READ_BYTES_FIRST,
            read_bytes_max: READ_BYTES_MAX,
            last_written: None,
        }
    }

    /// The same reader, which takes what was written last from memory, if it is given where from.
    pub(crate) fn following(self, last_written: Option<Arc<Following>>) -> SegmentReader {
        SegmentReader { last_written, ..self }
    }

    /// The same reader, reading in steps of the size that goes with the haste.
    pub(crate) fn with_haste(self, haste: Haste) -> Result<SegmentReader> {
        if haste == Haste::Full {
            return Ok(self);
        }
        // Linux would read megabytes ahead, and a durable write beside that takes 2.5 ms instead of 0.1.
        self.file.read_no_further()?;
        Ok(SegmentReader { read_bytes_max: STEP_BYTES, ..self })
    }

    /// A reader that reads only as much as one frame needs.
    pub(crate) fn for_one_frame(file: LogFile, header: SegmentHeader, lsn: Lsn, end: Lsn) -> SegmentReader {
        let read_bytes = HEADER_BYTES as usize;
        let read_bytes_max = read_bytes;
        SegmentReader { read_bytes, read_bytes_max, ..SegmentReader::new(file, header, lsn, end) }
    }

    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) fn lsn(&self) -> Lsn {
        self.scanner.lsn()
    }

    pub(crate) fn end(&self) -> Lsn {
        self.scanner.end()
    }

    pub(crate) fn extend_to(&mut self, end: Lsn) {
        self.scanner.extend_to(end);
    }

    /// The next frame, or why there is none. Reading on after a stop is possible: it looks at the same place again.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Found<'_>> {
        Ok(match self.advance()? {
            Ok((lsn, header)) => Found::Frame(self.frame(lsn, header)),
            Err(stop) => Found::Stop(stop),
        })
    }

    /// The frame that the last call of [`SegmentReader::advance`] found.
    #[inline]
    pub(crate) fn frame(&self, lsn: Lsn, header: FrameHeader) -> Frame<'_> {
        let at = lsn.distance_from(self.buffer_lsn) as usize;
        Frame { lsn, header, bytes: &self.buffer[at..at + header.frame_bytes() as usize] }
    }

    /// As [`SegmentReader::next`], without borrowing the frame.
    ///
    /// Inlined down to the checksums, as is all that it calls for a frame that is there: through calls and memory, what is known of a frame
    /// costs as much again as its checksums do.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Result<Result<(Lsn, FrameHeader), Stop>> {
        match self.step() {
            Step::Frame(lsn, header) => Ok(Ok((lsn, header))),
            Step::Stop(stop) => Ok(Err(stop)),
            Step::Need(bytes) => self.advance_beyond_buffer(bytes),
        }
    }

    #[inline(always)]
    fn step(&mut self) -> Step {
        let at = self.consumed();
        self.scanner.step(&self.buffer[at..self.held])
    }

    /// Bytes in the buffer that the scanner has left behind.
    fn consumed(&self) -> usize {
        self.scanner.lsn().distance_from(self.buffer_lsn) as usize
    }

    #[cold]
    fn advance_beyond_buffer(&mut self, mut wanted: usize) -> Result<Result<(Lsn, FrameHeader), Stop>> {
        loop {
            if !self.fill(wanted)? {
                // The file ends before the end that the scanner was given: what is there is all there is. A partial
                // frame is damage, nothing at all is unused space.
                let is_blank = self.buffer[..self.held].iter().all(|&byte| byte == 0);
                return Ok(Err(if is_blank { Stop::Zeros } else { Stop::Damaged(Flaw::PastEnd) }));
            }
            match self.step() {
                Step::Frame(lsn, header) => return Ok(Ok((lsn, header))),
                Step::Stop(stop) => return Ok(Err(stop)),
                Step::Need(bytes) => wanted = bytes,
            }
        }
    }

    /// Where the batch ends whose frame at `lsn` is not its last; if its last frame is not there, what is found instead.
    pub(crate) fn batch_end(&self, lsn: Lsn) -> Result<Result<Lsn, Error>> {
        let mut probe = SegmentReader::new(self.file.clone(), self.header, lsn, self.end());
        loop {
            match probe.advance()? {
                Ok((_, header)) if header.continues => {}
                Ok(_) => return Ok(Ok(probe.lsn())),
                Err(stop) => return Ok(Err(probe.corruption(stop))),
            }
        }
    }

    /// Drops what the scanner has left behind and reads on until the buffer holds `wanted` bytes; `false` if the file ends first.
    fn fill(&mut self, wanted: usize) -> Result<bool> {
        let consumed = self.consumed();
        self.buffer.copy_within(consumed..self.held, 0);
        self.held -= consumed;
        self.buffer_lsn = self.scanner.lsn();
        let available = self.scanner.end().distance_from(self.buffer_lsn);
        let goal = (wanted.max(self.read_bytes) as u64).min(available) as usize;
        self.read_bytes = (2 * self.read_bytes).min(self.read_bytes_max);
        if self.buffer.len() < goal {
            self.buffer.resize(goal, 0);
        }
        let room = &mut self.buffer[self.held..goal.max(self.held)];
        let SegmentHeader { segment, epoch, .. } = self.header;
        let lsn = self.buffer_lsn.advance(self.held as u64);
        if self.last_written.as_ref().is_some_and(|last| last.copy_to(room, segment, epoch, lsn)) {
            self.held += room.len();
            return Ok(self.held >= wanted);
        }
        let read = self.file.read_at(room, self.header.offset_of(lsn));
        self.held += read.map_err(|error| error.at_segment(segment).at_lsn(self.buffer_lsn))?;
        Ok(self.held >= wanted)
    }

    /// The corruption error for a stop that should not be here.
    pub(crate) fn corruption(&self, stop: Stop) -> Error {
        stop_error(self.file.path(), &self.header, self.lsn(), stop)
    }
}

/// The error for a scan of the segment with this header that stopped at `lsn` although records are known to follow.
pub(crate) fn stop_error(path: &Path, header: &SegmentHeader, lsn: Lsn, stop: Stop) -> Error {
    let detail = match stop {
        Stop::AtEnd => "the segment ends before the end that its successor names".to_owned(),
        Stop::Zeros => "there are zeros where synced records were".to_owned(),
        Stop::Damaged(flaw) => flaw.describe().to_owned(),
        Stop::Newer(bits) => format!("the frame type {bits:#06x} is not known to this version"),
    };
    let kind = match stop {
        Stop::Newer(_) => ErrorKind::UnsupportedVersion,
        _ => ErrorKind::Corruption,
    };
    Error::new(kind, "read", detail)
        .at_path(path)
        .at_segment(header.segment)
        .at_offset(header.offset_of(lsn))
        .at_lsn(lsn)
}
