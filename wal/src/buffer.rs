//! A byte buffer whose content starts at an address that direct I/O accepts.

/// Memory, offsets and lengths of direct writes are multiples of this: the largest block size in use.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// A growing byte buffer, aligned to [`BLOCK_BYTES`].
///
/// The standard vector gives no such alignment and the crate allows no unsafe code, so the content begins at the first aligned byte of a
/// vector with a block to spare, and moving to a larger vector is done here.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Empties the buffer and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `count` zeros.
    pub(crate) fn extend_zeros(&mut self, count: usize) {
        self.reserve(count);
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Makes room for `more` bytes, so that the vector never moves by itself.
    #[inline]
    fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        let len = self.len();
        let room = (len + more).max(2 * len).max(4 * BLOCK_BYTES);
        let mut bytes = Vec::with_capacity(room + BLOCK_BYTES);
        let start = (bytes.as_ptr() as usize).next_multiple_of(BLOCK_BYTES) - bytes.as_ptr() as usize;
        bytes.resize(start, 0);
        bytes.extend_from_slice(self.as_slice());
        *self = AlignedBuffer { bytes, start };
    }
}

/// What frames are encoded into.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for AlignedBuffer {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_stays_aligned_and_whole_while_it_grows() {
        let mut buffer = AlignedBuffer::default();
        let mut expected = Vec::new();
        for round in 0..2000_usize {
            let bytes = vec![round as u8; round % 97];
            buffer.extend_from_slice(&bytes);
            expected.extend_from_slice(&bytes);
            assert!(buffer.len() == 0 || (buffer.as_slice().as_ptr() as usize).is_multiple_of(BLOCK_BYTES));
        }
        assert_eq!(buffer.as_slice(), expected);
        buffer.clear();
        buffer.extend_zeros(5);
        assert_eq!(buffer.as_slice(), [0; 5]);
        assert!((buffer.as_slice().as_ptr() as usize).is_multiple_of(BLOCK_BYTES));
    }
}
