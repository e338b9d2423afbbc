//! What `walctl` promises on its command line: records in and out, exit codes, and that looking changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

const SEGMENT: &str = "0000000000000001.wal";

fn walctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walctl"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    walctl(args).output().expect("walctl starts")
}

fn run_with(args: &[&str], input: &[u8]) -> Output {
    let mut child = walctl(args).stdin(Stdio::piped()).spawn().expect("walctl starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    // A command that fails early does not read its input, so a broken pipe is no failure of the test.
    let feeder = thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().expect("walctl ends");
    feeder.join().expect("feeding does not panic");
    output
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is UTF-8")
}

/// Runs a command that has to work and gives its standard output.
fn ok(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(code(&output), 0, "{args:?}: {}", words(&output));
    text(&output)
}

struct Log {
    root: TempDir,
}

impl Log {
    fn none() -> Log {
        Log { root: tempfile::tempdir().expect("a temporary directory") }
    }

    fn with(lines: &[u8], options: &[&str]) -> Log {
        let log = Log::none();
        let output = log.append(lines, options);
        assert_eq!(code(&output), 0, "{}", words(&output));
        log
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("log")
    }

    fn dir(&self) -> String {
        self.path().into_os_string().into_string().expect("the path is UTF-8")
    }

    fn append(&self, lines: &[u8], options: &[&str]) -> Output {
        let dir = self.dir();
        run_with(&[&["append", &dir][..], options].concat(), lines)
    }

    fn records(&self) -> Vec<Value> {
        json_lines(&ok(&["dump", &self.dir(), "--format", "jsonl", "--payload", "hex"]))
    }

    fn lsns(&self) -> Vec<String> {
        self.records().iter().map(|record| record["lsn"].as_str().expect("a string").to_owned()).collect()
    }

    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&text(&run(&[command, &self.dir(), "--format", "json"]))).expect("JSON")
    }

    fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path().join(file);
        let mut bytes = fs::read(&path).expect("the file is there");
        change(&mut bytes);
        fs::write(&path, bytes).expect("the file can be written");
    }

    /// Starts a writer, lets it append these lines, and leaves it waiting for more.
    fn open_with(&self, lines: &[&str]) -> Child {
        let mut child =
            walctl(&["append", &self.dir(), "--ack", "-q"]).stdin(Stdio::piped()).spawn().expect("walctl starts");
        let mut acks = BufReader::new(child.stdout.as_mut().expect("it is piped"));
        for line in lines {
            let stdin = child.stdin.as_mut().expect("it is piped");
            stdin.write_all(format!("{line}\n").as_bytes()).expect("it reads");
            let mut ack = String::new();
            acks.read_line(&mut ack).expect("it acknowledges");
            assert!(ack.ends_with('\n'), "{ack:?}");
        }
        child
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

fn numbered_lines(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|line| format!("line {line} of the input\n").into_bytes()).collect()
}

#[test]
fn lines_come_back_as_they_were_in_every_mode_and_with_several_threads() {
    let mut input = numbered_lines(500);
    input.extend(b"\n\xff\xfe\0\r\n\nthe last one has no newline");
    let expected: Vec<String> = input.split(|&byte| byte == b'\n').map(hex).collect();
    for mode in ["sync", "batch", "none"] {
        for threads in ["1", "4"] {
            let log = Log::with(&input, &["--sync-mode", mode, "--threads", threads, "--segment-size", "8KiB"]);
            let found: Vec<String> =
                log.records().iter().map(|record| record["payload"].as_str().expect("hex").to_owned()).collect();
            assert_eq!(found, expected, "{mode} with {threads} threads");
            assert_eq!(log.json("verify")["verdict"], "clean");
        }
    }
}

#[test]
fn an_acknowledgement_names_the_record_and_its_line() {
    let log = Log::none();
    let output = log.append(&numbered_lines(300), &["--ack", "--threads", "4", "-q"]);
    assert_eq!((code(&output), words(&output).as_str()), (0, ""));
    let parse = |line: &str| -> (u64, usize) {
        let (lsn, number) = line.split_once('\t').expect("a tab");
        (number.parse().expect("a line number"), lsn.parse().expect("an LSN"))
    };
    let acks: BTreeMap<u64, usize> = text(&output).lines().map(parse).collect();
    assert_eq!(acks.keys().copied().collect::<Vec<_>>(), (1..=300).collect::<Vec<_>>());
    let lsns: Vec<usize> = log.lsns().iter().map(|lsn| lsn.parse().expect("an LSN")).collect();
    assert_eq!(acks.into_values().collect::<Vec<_>>(), lsns, "LSN order is line order");
}

#[test]
fn a_second_append_goes_on_where_the_first_ended() {
    let log = Log::with(b"one\ntwo\n", &[]);
    let output = log.append(b"three\n", &["--sync-mode", "batch", "--batch-delay", "2ms", "--batch-bytes", "64KiB"]);
    assert!(words(&output).contains("appended 1 record, 5 bytes"), "{}", words(&output));
    assert_eq!(log.records().len(), 3);
}

#[test]
fn appending_nothing_creates_a_log_and_an_input_that_is_missing_does_not() {
    let log = Log::with(b"", &[]);
    assert_eq!(log.records().len(), 0);
    let log = Log::none();
    assert_eq!(code(&log.append(b"", &["--input", "no-such-file-anywhere"])), 2);
    assert!(!log.path().exists());
}

#[test]
fn dump_selects_records_and_shows_payloads_in_every_form() {
    let log = Log::with(b"one\ntwo\n\xff\nfour\n", &[]);
    let (dir, lsns) = (log.dir(), log.lsns());
    let lines = |args: &[&str]| json_lines(&ok(&[&["dump", &dir, "--format", "jsonl"][..], args].concat()));
    let of = |records: Vec<Value>| -> Vec<String> {
        records.iter().map(|record| record["lsn"].as_str().expect("a string").to_owned()).collect()
    };
    assert_eq!(of(lines(&["--from", &lsns[1], "--to", &lsns[3]])), lsns[1..3], "`--to` is exclusive");
    assert_eq!(of(lines(&["--from", &lsns[1], "-n", "1"])), lsns[1..2]);
    assert_eq!(of(lines(&["-n", "0"])), [""; 0]);

    let record = &lines(&[])[0];
    let keys: Vec<&String> = record.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["len", "lsn", "schema", "segment", "type"]);
    assert_eq!((&record["lsn"], &record["segment"]), (&Value::from("4096"), &Value::from(1)));
    assert_eq!((&record["type"], &record["len"]), (&Value::from(0), &Value::from(3)));
    let payload = |form: &str, index: usize| lines(&["--payload", form])[index].clone();
    assert_eq!(payload("utf8", 0)["payload"], "one");
    assert_eq!(payload("utf8", 0)["lossy"], Value::Null);
    assert_eq!(payload("utf8", 2)["payload"], "\u{fffd}");
    assert_eq!(payload("utf8", 2)["lossy"], true);
    assert_eq!(payload("hex", 2)["payload"], "ff");
    assert_eq!(payload("base64", 3)["payload"], "Zm91cg==");

    let table = ok(&["dump", &dir]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["LSN", "SEGMENT", "TYPE", "LEN", "PAYLOAD"]);
    assert_eq!(rows[3], [&lsns[2], "1", "0", "1", "\\xff"]);
    assert!(!ok(&["dump", &dir, "--payload", "none"]).contains("PAYLOAD"));
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_creates_nothing() {
    let log = Log::none();
    let dir = log.dir();
    let cases: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["dump", &dir],
        &["info", &dir],
        &["verify", &dir],
        &["truncate", &dir, "--before", "4096"],
        &["truncate", &dir],
        &["truncate", &dir, "--before", "1", "--after", "1"],
        &["append", &dir, "--segment-size", "4X"],
        &["append", &dir, "--segment-size", "1KiB"],
        &["append", &dir, "--batch-delay", "1ms"],
        &["append", &dir, "--sync-mode", "batch", "--batch-delay", "10"],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", words(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
        assert!(!log.path().exists(), "{args:?}");
    }
    fs::create_dir(log.path()).expect("it is absent");
    for command in ["dump", "info", "verify"] {
        assert_eq!(code(&run(&[command, &dir])), 2, "{command} of an empty directory");
    }
    assert!(snapshot(&log.path()).is_empty());
}

#[test]
fn help_has_examples_and_exit_codes() {
    for command in ["append", "dump", "info", "verify", "truncate", "demo"] {
        let help = ok(&[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
    assert!(ok(&["--version"]).starts_with("walctl "));
}

#[test]
fn a_line_that_is_too_large_is_exit_code_2_and_what_was_before_it_stays() {
    for bytes in [8200, 20_000] {
        let log = Log::none();
        let input = [b"one\ntwo\n", vec![b'x'; bytes].as_slice(), b"\nfour\n"].concat();
        let output = log.append(&input, &["--segment-size", "8KiB"]);
        assert_eq!(code(&output), 2);
        assert!(words(&output).contains("line 3: "), "{}", words(&output));
        assert_eq!(log.records().len(), 2);
    }
}

#[test]
fn a_log_in_use_is_exit_code_3_for_writers_and_open_to_readers() {
    let log = Log::none();
    let dir = log.dir();
    let mut writer = log.open_with(&["one", "two"]);
    let output = log.append(b"three\n", &[]);
    assert_eq!(code(&output), 3, "{}", words(&output));
    assert_eq!(code(&run(&["truncate", &dir, "--before", "4096", "--apply", "--yes"])), 3);
    assert_eq!(log.json("info")["state"], "in use");
    assert_eq!(code(&run(&["verify", &dir])), 0);
    assert_eq!(log.records().len(), 2);
    drop(writer.stdin.take());
    assert!(writer.wait().expect("it ends").success());
    assert_eq!(log.json("info")["state"], "closed cleanly");
}

#[test]
fn looking_at_a_log_while_it_is_written_finds_nothing_wrong() {
    let log = Log::with(b"one\n", &[]);
    let dir = log.dir();
    let mut writer =
        walctl(&["append", &dir, "-q", "--sync-mode", "batch", "--threads", "4", "--segment-size", "64KiB"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("walctl starts");
    let mut stdin = writer.stdin.take().expect("it is piped");
    let feeder = thread::spawn(move || {
        let line = b"a record that is written while others read\n";
        (0_u64..).take_while(|_| stdin.write_all(line).is_ok()).count()
    });
    for args in [&["dump"][..], &["dump", "--reverse"], &["ls"], &["stat"], &["info"], &["verify"]].repeat(3) {
        let output = run(&[args, &[&dir]].concat());
        assert_eq!((code(&output), words(&output).as_str()), (0, ""), "{args:?}");
    }
    writer.kill().expect("it runs");
    writer.wait().expect("it ends");
    assert!(feeder.join().expect("feeding does not panic") > 0);
    assert_eq!(code(&run(&["verify", &dir])), 0);
}

#[test]
fn corruption_is_exit_code_1_after_the_records_before_it() {
    let log = Log::with(b"one\ntwo\nthree\nfour\n", &[]);
    let dir = log.dir();
    let third: usize = log.lsns()[2].parse().expect("an LSN");
    // In segment 1 the LSN is the offset in the file, and a frame header has 24 bytes.
    log.change(SEGMENT, |bytes| bytes[third + 24] ^= 1);
    let before = snapshot(&log.path());
    let output = run(&["dump", &dir, "--format", "jsonl", "--payload", "utf8"]);
    assert_eq!(code(&output), 1, "{}", words(&output));
    let payloads: Vec<Value> = json_lines(&text(&output)).iter().map(|record| record["payload"].clone()).collect();
    assert_eq!(payloads, ["one", "two"]);
    for command in ["info", "verify"] {
        let output = run(&[command, &dir]);
        assert_eq!(code(&output), 1, "{command}");
        assert!(text(&output).contains("corrupt"), "{}", text(&output));
    }
    let report = log.json("verify");
    assert_eq!((&report["verdict"], &report["exit_code"]), (&Value::from("corrupt"), &Value::from(1)));
    let damage = &report["segments"][0]["damage"];
    assert_eq!(damage["kind"], "corruption");
    assert_eq!((&damage["offset"], &damage["lsn"]), (&Value::from(third), &Value::from(third.to_string())));
    assert_eq!(damage["valid_records_after"], 1);
    assert!(damage["witness"].is_string());
    assert_eq!(code(&log.append(b"five\n", &[])), 1);
    assert_eq!(code(&run(&["truncate", &dir, "--before", "4096", "--apply", "--yes"])), 1);
    assert_eq!(snapshot(&log.path()), before, "nothing was changed");
}

#[test]
fn a_torn_tail_is_a_warning() {
    let log = Log::none();
    let dir = log.dir();
    let mut writer = log.open_with(&["one", "two"]);
    writer.kill().expect("it runs");
    writer.wait().expect("it ends");
    let end: usize = log.json("info")["end_lsn"].as_str().and_then(|lsn| lsn.parse().ok()).expect("an LSN");
    log.change(SEGMENT, |bytes| bytes[end..end + 40].fill(0xA5));
    let before = snapshot(&log.path());
    let output = run(&["dump", &dir, "--format", "jsonl"]);
    assert_eq!((code(&output), json_lines(&text(&output)).len()), (0, 2));
    assert!(words(&output).contains("torn tail"), "{}", words(&output));
    let output = run(&["verify", &dir]);
    assert_eq!(code(&output), 0);
    assert!(words(&output).contains("warning"), "{}", words(&output));
    let report = log.json("verify");
    assert_eq!((&report["verdict"], &report["exit_code"]), (&Value::from("torn tail"), &Value::from(0)));
    assert_eq!(report["segments"][0]["damage"]["kind"], "torn tail");
    assert_eq!(snapshot(&log.path()), before, "looking changes nothing");
    let output = log.append(b"three\n", &[]);
    assert_eq!(code(&output), 0);
    assert!(words(&output).contains("unfinished write was cut"), "{}", words(&output));
    assert_eq!(log.records().len(), 3);
}

#[test]
fn a_newer_format_is_exit_code_6() {
    let log = Log::with(b"one\n", &[]);
    log.change("control", |bytes| {
        bytes[8] = 99;
        let checksum = crc32c::crc32c(&bytes[..4092]);
        bytes[4092..].copy_from_slice(&checksum.to_le_bytes());
    });
    let dir = log.dir();
    for command in ["dump", "info", "verify"] {
        let output = run(&[command, &dir]);
        assert_eq!(code(&output), 6, "{command}: {}", words(&output));
    }
    assert_eq!(code(&log.append(b"two\n", &[])), 6);
}

#[test]
fn an_input_or_output_that_fails_is_exit_code_5() {
    let log = Log::with(b"one\n", &[]);
    let dir = log.dir();
    let directory = log.root.path().to_str().expect("UTF-8");
    let output = run(&["append", &dir, "--input", directory]);
    assert_eq!(code(&output), if cfg!(windows) { code(&output) } else { 5 }, "{}", words(&output));
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let output = walctl(&["dump", &dir]).stdout(full).output().expect("walctl starts");
        assert_eq!(code(&output), 5, "{}", words(&output));
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let input = numbered_lines(20_000);
    let log = Log::with(&input, &["--sync-mode", "none"]);
    let dir = log.dir();
    let mut dump = walctl(&["dump", &dir]).spawn().expect("walctl starts");
    let mut first = [0; 10];
    dump.stdout.take().expect("it is piped").read_exact(&mut first).expect("it prints");
    let output = dump.wait_with_output().expect("it ends");
    assert_eq!((code(&output), words(&output).as_str()), (0, ""));

    let file = log.root.path().join("input");
    fs::write(&file, &input).expect("it can be written");
    let file = file.to_str().expect("UTF-8");
    let mut append = walctl(&["append", &dir, "-q", "--sync-mode", "none", "--ack", "--threads", "4", "--input", file])
        .spawn()
        .expect("walctl starts");
    append.stdout.take().expect("it is piped").read_exact(&mut first).expect("it prints");
    let output = append.wait_with_output().expect("it ends");
    assert_eq!((code(&output), words(&output).as_str()), (0, ""));
    assert_eq!(log.json("verify")["verdict"], "clean");
}

#[test]
fn truncate_shows_its_plan_and_changes_nothing_until_it_is_told_to() {
    let log = Log::with(&numbered_lines(1000), &["--segment-size", "8KiB", "--sync-mode", "none"]);
    let (dir, lsns) = (log.dir(), log.lsns());
    let before = snapshot(&log.path());
    let plan = ok(&["truncate", &dir, "--before", &lsns[500]]);
    assert!(plan.contains("remove   0000000000000001.wal") && plan.contains("rewrite  "), "{plan}");
    assert!(ok(&["truncate", &dir, "--before", &lsns[500], "--policy", "whole-segments"]).contains("keep     "));
    assert!(ok(&["truncate", &dir, "--after", &lsns[500]]).contains("remove 499 records"));
    let output = run(&["truncate", &dir, "--before", &lsns[500], "--apply"]);
    assert_eq!(code(&output), 2);
    assert!(words(&output).contains("--yes"), "{}", words(&output));
    assert_eq!(code(&run(&["truncate", &dir, "--before", &lsns[500], "--yes"])), 2);
    let past = (lsns[999].parse::<u64>().expect("an LSN") + 4096).to_string();
    assert_eq!(code(&run(&["truncate", &dir, "--before", &past])), 4);
    assert_eq!(code(&run(&["truncate", &dir, "--after", &past])), 2);
    assert_eq!(snapshot(&log.path()), before);

    ok(&["truncate", &dir, "--before", &lsns[500], "--apply", "--yes"]);
    assert_eq!(log.lsns(), lsns[500..]);
    assert_eq!(code(&run(&["dump", &dir, "--from", &lsns[0]])), 4, "those records are truncated");
    assert_eq!(code(&run(&["truncate", &dir, "--after", &lsns[0]])), 4);
    ok(&["truncate", &dir, "--after", &lsns[700], "--apply", "--yes"]);
    assert_eq!(log.lsns(), lsns[500..=700]);
    assert_eq!(log.json("verify")["exit_code"], 0);
}

#[test]
fn whole_segments_are_kept_whole() {
    let log = Log::with(&numbered_lines(1000), &["--segment-size", "8KiB", "--sync-mode", "none"]);
    let (dir, lsns) = (log.dir(), log.lsns());
    ok(&["truncate", &dir, "--before", &lsns[500], "--policy", "whole-segments", "--apply", "--yes"]);
    let left = log.lsns();
    assert!(lsns.ends_with(&left) && left.len() > 500 && left.len() < 1000, "{} are left", left.len());
}

#[test]
fn reports_are_json_with_strings_for_lsns() {
    let log = Log::with(b"one\ntwo\n", &[]);
    fs::write(log.path().join("notes.txt"), "mine").expect("it can be written");
    let info = log.json("info");
    for key in ["log_id", "state", "start_lsn", "end_lsn", "durable_witness", "verdict", "explanation"] {
        assert!(info[key].is_string(), "{key}: {info}");
    }
    assert_eq!((&info["records"], &info["checkpoint"]), (&Value::from(2), &Value::Null));
    assert_eq!(info["segments"][0]["file"], SEGMENT);
    assert_eq!(info["segments"][0]["base_lsn"], "4096");
    assert_eq!(info["segments"][0]["records"], 2);
    assert_eq!(info["leftovers"][0]["file"], "notes.txt");
    assert_eq!(log.json("verify")["next_step"], "nothing: the log is sound");
    assert!(ok(&["info", &log.dir()]).contains("notes.txt"));
}

#[test]
fn the_demo_loses_nothing_and_writes_to_no_directory_that_holds_anything() {
    let log = Log::none();
    let dir = log.dir();
    let report = ok(&["demo", &dir]);
    let last = report.lines().last().expect("a verdict");
    assert!(last.starts_with("VERDICT: ok."), "{report}");
    let before = fs::read_dir(log.path()).expect("it is kept").count();
    let output = run(&["demo", &dir]);
    assert_eq!(code(&output), 2, "{}", words(&output));
    assert_eq!(fs::read_dir(log.path()).expect("it is kept").count(), before);
}
