//! A directory of a log: names of every kind, and contents that are copied, cut, mixed up or foreign.

use wal::fs::sim::SimFs;

use crate::input::Input;
use crate::judge::{self, DIR};
use crate::segments::{FILES, change, templates};

const NAMES: [&str; 18] = [
    "control",
    "control.tmp",
    "lock",
    "reserve",
    "0000000000000000.wal",
    "0000000000000001.wal",
    "0000000000000002.wal",
    "0000000000000003.wal",
    "0000000000000004.wal",
    "000000000000000a.wal",
    "000000000000000A.wal",
    "ffffffffffffffff.wal",
    "0000000000000001.wal.tmp",
    "0000000000000003.wal.tmp",
    "0000000000000003.prepare",
    "0000000000000004.prepare",
    "0000000000000001.recycle",
    "notes.txt",
];

/// Removes, copies, renames, writes and changes files, and leaves a log that must be refused or go on.
pub fn directory(data: &[u8]) {
    let mut input = Input::new(data);
    let choices = input.byte();
    let fs = templates()[usize::from(choices & 1)].kill();
    if choices & 2 != 0 {
        for path in FILES {
            fs.remove_file(path).expect("it is there");
        }
    }
    for _ in 0..10 {
        if input.is_empty() {
            break;
        }
        arrange(&mut input, &fs);
    }
    drop(judge::judge(&fs));
}

fn arrange(input: &mut Input<'_>, fs: &SimFs) {
    let path_of = |input: &mut Input<'_>| format!("{DIR}/{}", NAMES[usize::from(input.byte()) % NAMES.len()]);
    let what = input.byte() % 6;
    let path = path_of(input);
    let content = match what {
        0 => {
            // It may not be there, and then nothing happens.
            drop(fs.remove_file(&path));
            return;
        }
        1 => {
            let other = usize::from(input.byte());
            templates()[other & 1].read_file(FILES[other / 2 % FILES.len()]).expect("it is there")
        }
        2 => fs.read_file(path_of(input)).unwrap_or_default(),
        3 => vec![input.byte() & 1; input.below(9000)],
        4 => input.bytes(200).to_vec(),
        _ => {
            let mut content = fs.read_file(&path).unwrap_or_default();
            change(input, &mut content);
            content
        }
    };
    fs.write_file(&path, &content).expect("it is written");
}
