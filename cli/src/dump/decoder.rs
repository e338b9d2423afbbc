//! `--decoder`: payloads go through the user's own program.
//!
//! The command is run once, by the shell. For each record it reads a line `LSN TYPE LENGTH` and then LENGTH bytes of payload, and it
//! answers with one line of text. Requests are sent without waiting for answers, so a decoder that buffers its output works; with
//! `--follow` it has to flush after each line to be seen at once. At the end of the records its input is closed.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use wal::LogEnd;

use super::print::{Head, Printer};
use super::{Finish, Source};
use crate::failure::{Exit, Failure, Result};

/// Pipes the records of `source` through `command` and prints the answers.
pub(super) fn run(command: &str, source: Source, printer: &mut Printer<'_>) -> Result<Option<LogEnd>> {
    let mut child = start(command)?;
    let stdin = child.stdin.take().expect("it is piped");
    let answers = BufReader::new(child.stdout.take().expect("it is piped"));
    let (heads, waiting) = channel();
    let feeder = thread::spawn(move || {
        let mut feed = Feed { stdin: BufWriter::with_capacity(64 << 10, stdin), heads };
        source.run(&mut |head, payload, feed: &mut Feed| feed.record(head, payload), &mut feed)
    });
    let printed = print(answers, &waiting, printer);
    // From here on the feeder finds nobody who listens, and ends.
    drop(waiting);
    let fed = feeder.join().map_err(|_| failed("the thread that feeds the decoder panicked".to_owned()))?;
    let status = child.wait().map_err(|error| Failure::io("wait for the decoder", error))?;
    printed?;
    let end = fed?;
    if !status.success() {
        return Err(failed(format!("the decoder failed: {status}")));
    }
    Ok(end)
}

fn failed(words: String) -> Failure {
    Failure::Words(Exit::Io, words)
}

fn start(command: &str) -> Result<Child> {
    let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
    shell.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(command);
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::io(format!("start the decoder {command:?}"), error))
}

/// The input of the decoder, and the records it has been asked about.
struct Feed {
    stdin: BufWriter<ChildStdin>,
    heads: Sender<Head>,
}

impl Feed {
    fn record(&mut self, head: Head, payload: &[u8]) -> Result<()> {
        // If nobody waits for the answer any more, printing failed and that failure is the one that counts.
        self.heads.send(head).map_err(|_| Failure::ClosedPipe)?;
        let written = self.stdin.write_all(head.request().as_bytes()).and_then(|()| self.stdin.write_all(payload));
        written.map_err(fed)
    }
}

impl Finish for Feed {
    fn pause(&mut self) -> Result<()> {
        self.stdin.flush().map_err(fed)
    }
}

fn fed(error: io::Error) -> Failure {
    Failure::io("write to the decoder", error)
}

/// Pairs answers with records, in order.
fn print(mut answers: impl BufRead, waiting: &Receiver<Head>, printer: &mut Printer<'_>) -> Result<()> {
    let mut answer = Vec::new();
    let mut count = 0_u64;
    while let Ok(head) = waiting.recv() {
        answer.clear();
        let read =
            answers.read_until(b'\n', &mut answer).map_err(|error| Failure::io("read from the decoder", error))?;
        if read == 0 {
            return Err(failed(format!("the decoder ended after {count} answers, one for each record was expected")));
        }
        count += 1;
        printer.decoded(&head, String::from_utf8_lossy(&answer).trim_end_matches(['\n', '\r']))?;
    }
    Ok(())
}
