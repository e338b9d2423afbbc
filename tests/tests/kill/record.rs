//! What is appended: each record says which process, which thread and which append it is of, and all its bytes follow from that.

use wal_tests::rng::Rng;

/// Threads that append in one process.
pub const THREADS: u64 = 3;

/// The name of a record, from which its bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The process, counted from 1.
    pub life: u64,
    /// The thread.
    pub thread: u64,
    /// The append of the thread, counted from 0.
    pub sequence: u64,
    /// The position in the batch.
    pub index: u64,
    /// The records of the batch; 1 if it is none.
    pub count: u64,
}

impl Name {
    /// As one number.
    pub fn number(self) -> u64 {
        self.life << 40 | self.thread << 36 | self.sequence << 8 | self.index << 4 | self.count
    }

    /// From one number.
    pub fn of(number: u64) -> Name {
        Name {
            life: number >> 40,
            thread: number >> 36 & 0xF,
            sequence: number >> 8 & 0xFFF_FFFF,
            index: number >> 4 & 0xF,
            count: number & 0xF,
        }
    }

    /// The name that a payload carries, if every byte of the payload is right.
    pub fn in_payload(payload: &[u8]) -> Option<Name> {
        let name = Name::of(u64::from_le_bytes(*payload.first_chunk()?));
        (payload == name.payload()).then_some(name)
    }

    /// The bytes of the record.
    pub fn payload(self) -> Vec<u8> {
        let mut rng = Rng::new(self.number());
        let len = match rng.below(16) {
            0 => 8,
            1 if self.count == 1 => 4000 + rng.below(200),
            _ => 8 + rng.below(700),
        } as usize;
        let mut bytes = self.number().to_le_bytes().to_vec();
        while bytes.len() < len {
            bytes.extend_from_slice(&rng.number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// The bytes that a payload takes in the log.
pub fn frame_bytes(len: usize) -> u64 {
    (24 + len as u64).next_multiple_of(8)
}

#[test]
fn a_name_is_found_in_its_payload_and_in_no_damaged_one() {
    let name = Name { life: 3, thread: 2, sequence: 70_000, index: 1, count: 4 };
    assert_eq!(Name::of(name.number()), name);
    let mut payload = name.payload();
    assert_eq!(Name::in_payload(&payload), Some(name));
    *payload.last_mut().expect("it is not empty") ^= 1;
    assert_eq!(Name::in_payload(&payload), None);
}
