//! A new file, written from its start to its end in steps.

use crate::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::error::Result;
use crate::fs::durable::LogFile;

/// Writes a new file from its start to its end, in whole blocks past the page cache where `direct` is there.
#[derive(Debug)]
pub(crate) struct StreamWriter<'a> {
    file: &'a LogFile,
    direct: Option<LogFile>,
    pending: AlignedBuffer,
    offset: u64,
    step_bytes: usize,
}

impl<'a> StreamWriter<'a> {
    /// A writer of the empty `file`, through `direct` if that is the same file, opened for direct writes.
    pub(crate) fn new(file: &'a LogFile, direct: Option<LogFile>, step_bytes: usize) -> StreamWriter<'a> {
        assert!(step_bytes.is_multiple_of(BLOCK_BYTES), "{step_bytes} bytes are no whole blocks");
        StreamWriter { file, direct, pending: AlignedBuffer::default(), offset: 0, step_bytes }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.pending.len() + bytes.len() >= self.step_bytes {
            let (now, later) = bytes.split_at(self.step_bytes - self.pending.len());
            self.pending.extend_from_slice(now);
            self.write()?;
            bytes = later;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn push_zeros(&mut self, count: u64) -> Result<()> {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let mut left = count;
        while left > 0 {
            let bytes = left.min(BLOCK_BYTES as u64);
            self.push(&ZEROS[..bytes as usize])?;
            left -= bytes;
        }
        Ok(())
    }

    /// Writes what is left. Nothing is durable before the file is synced.
    pub(crate) fn finish(mut self) -> Result<()> {
        let end = self.offset + self.pending.len() as u64;
        let rest = self.pending.len();
        if self.direct.is_some() {
            self.pending.extend_zeros(rest.next_multiple_of(BLOCK_BYTES) - rest);
        }
        self.write()?;
        if self.offset > end { self.file.set_len(end) } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.direct.as_ref().unwrap_or(self.file).write_at(self.pending.as_slice(), self.offset)?;
        self.offset += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::durable::{LogDir, create_dir_durable};
    use crate::fs::sim::SimFs;
    use crate::gentle::STEP_BYTES;

    #[test]
    fn a_streamed_file_holds_what_was_pushed_and_no_more() {
        for is_direct in [false, true] {
            for total in [0, 1, 4095, 4096, 4097, 3 * STEP_BYTES, 3 * STEP_BYTES + 511] {
                let fs = SimFs::new(7);
                create_dir_durable(&fs, Path::new("/log")).unwrap();
                let dir = LogDir::open(&fs, Path::new("/log")).unwrap();
                let mut expected = Vec::new();
                let fill = |file: &LogFile| {
                    let direct = if is_direct { dir.open_direct_unsynced("a")? } else { None };
                    assert_eq!(direct.is_some(), is_direct);
                    let mut output = StreamWriter::new(file, direct, STEP_BYTES);
                    while expected.len() < total {
                        let piece = vec![expected.len() as u8; (expected.len() % 9973 + 1).min(total - expected.len())];
                        output.push(&piece)?;
                        expected.extend_from_slice(&piece);
                    }
                    output.push_zeros(5)?;
                    expected.extend_from_slice(&[0; 5]);
                    output.finish()
                };
                let file = dir.create_filled("a", fill).unwrap();
                let mut found = vec![0; expected.len() + 1];
                let read = file.read_at(&mut found, 0).unwrap();
                assert_eq!((read, &found[..read]), (expected.len(), &expected[..]), "direct: {is_direct}");
            }
        }
    }
}
