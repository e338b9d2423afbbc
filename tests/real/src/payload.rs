//! What the workloads append: bytes that follow from a number, so that a record found later can be compared byte for byte.

use wal_tests::rng::Rng;

/// Stands in every payload, so that the blocks of the log can be told from those of the file system.
const MARKER: &[u8; 16] = b"\xA7wal-power-cut\xA7\n";

/// The bytes of the payload with this number and length. It begins with the number, if there is room.
pub fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend_from_slice(MARKER);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.number().to_le_bytes());
        if bytes.len().is_multiple_of(256) {
            bytes.extend_from_slice(MARKER);
        }
    }
    bytes.truncate(len);
    bytes
}

/// The number that a payload begins with.
pub fn number_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Whether a block holds a part of a payload.
pub fn is_in(block: &[u8]) -> bool {
    block.windows(MARKER.len()).step_by(8).any(|window| window == MARKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_follows_from_its_number_and_is_found_in_a_block() {
        assert_eq!(payload(7, 100), payload(7, 100));
        assert_ne!(payload(7, 100), payload(8, 100));
        assert_eq!(number_of(&payload(7, 8)), Some(7));
        assert_eq!(payload(7, 3).len(), 3);
        let mut block = vec![0; 4096];
        assert!(!is_in(&block));
        block[3000..3400].copy_from_slice(&payload(9, 400));
        assert!(is_in(&block));
    }
}
