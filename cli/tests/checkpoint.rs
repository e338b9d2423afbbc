//! `walctl checkpoint` and `walctl dump --payload tree`: what they say of a store, exit codes, and that looking changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use checkpoint::{Config, Store};
use serde_json::Value;
use tempfile::TempDir;

fn walctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walctl")).args(args).output().expect("walctl starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is UTF-8")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ok(args: &[&str]) -> String {
    let output = walctl(args);
    assert_eq!(code(&output), 0, "{args:?}: {}", words(&output));
    text(&output)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_slice(&walctl(args).stdout).expect("the output is JSON")
}

struct Files {
    root: TempDir,
}

impl Files {
    /// A store with 300 entries, one of them long, and two changes since its checkpoint.
    fn new() -> Files {
        let files = Files { root: tempfile::tempdir().expect("a temporary directory") };
        let store = files.open();
        for number in 0..300 {
            store.put(format!("key-{number:03}"), vec![7; if number == 9 { 9000 } else { 40 }]).expect("a put works");
        }
        store.checkpoint().expect("a checkpoint works");
        store.put("alice", "100").expect("a put works");
        store.delete("key-100").expect("a delete works");
        files
    }

    fn closed() -> Files {
        let files = Files::new();
        files.open().close().expect("the store closes");
        files
    }

    fn open(&self) -> Store {
        let mut config = Config { page_bytes: 4096, ..Config::default() };
        config.log.segment_bytes_max = 256 << 10;
        config.log.sync_mode = wal::SyncMode::None;
        Store::open(self.path(), config).expect("the store opens")
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn dir(&self) -> String {
        self.path().into_os_string().into_string().expect("the path is UTF-8")
    }

    /// Flips a bit of a page.
    fn flip(&self, page: usize) {
        let path = self.path().join("pages");
        let mut bytes = fs::read(&path).expect("there is a page file");
        bytes[page * 4096 + 3000] ^= 1;
        fs::write(&path, bytes).expect("the page file can be written");
    }
}

/// All files below a directory, with their bytes.
fn content(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            content(&path, found);
        } else {
            found.insert(path.clone(), fs::read(&path).expect("the file can be read"));
        }
    }
}

#[test]
fn show_tells_what_is_to_be_replayed() {
    let files = Files::new();
    let shown = ok(&["checkpoint", "show", &files.dir()]);
    for line in [
        "state       not closed: the next open replays the log",
        "to replay   2 records, 2 changes",
        "page size   4096 B",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let view = json(&["checkpoint", "show", &files.dir(), "--format", "json"]);
    assert_eq!((&view["schema"], &view["kind"]), (&1.into(), &"checkpoint".into()));
    assert_eq!(view["log"]["records_to_replay"], 2);
    assert_eq!((&view["pages"]["tree_depth"], &view["pages"]["spare_pages"]), (&2.into(), &16.into()));
    assert!(view["redo_lsn"].is_string() && view["checkpoint_record"] == "present", "{view}");
    files.open().close().expect("the store closes");
    let view = json(&["checkpoint", "show", &files.dir(), "--format", "jsonl"]);
    assert_eq!((&view["state"], &view["log"]["records_to_replay"]), (&"closed cleanly".into(), &0.into()));
}

#[test]
fn verify_finds_a_sound_store_sound_and_changes_nothing() {
    for files in [Files::new(), Files::closed()] {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        content(&files.path(), &mut before);
        let shown = ok(&["checkpoint", "verify", &files.dir()]);
        assert!(shown.contains("verdict     sound") && shown.contains("entries     300, "), "{shown}");
        let view = json(&["checkpoint", "verify", &files.dir(), "--format", "json"]);
        assert_eq!((&view["kind"], &view["verdict"]), (&"checkpoint-verify".into(), &"sound".into()));
        assert_eq!((&view["tree"]["entries"], &view["exit_code"]), (&300.into(), &0.into()));
        ok(&["checkpoint", "show", &files.dir()]);
        content(&files.path(), &mut after);
        assert!(before == after, "looking changes nothing");
    }
}

#[test]
fn verify_ends_with_code_1_at_damage_and_says_where_and_what_to_do() {
    let files = Files::closed();
    files.flip(3);
    let output = walctl(&["checkpoint", "verify", &files.dir()]);
    assert_eq!(code(&output), 1);
    let shown = text(&output);
    for part in [
        "damaged page: pages, page 3, offset 12288",
        "  expected: checksum ",
        "  to do:    distrust",
        "verdict     damaged",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(
        words(&output).starts_with("walctl: the store is damaged: 1 finding; first: pages, page 3"),
        "{}",
        words(&output)
    );
    let view = json(&["checkpoint", "verify", &files.dir(), "--format", "json"]);
    let finding = &view["findings"][0];
    assert_eq!((&finding["page"], &finding["offset"], &finding["damage"]), (&3.into(), &12288.into(), &true.into()));
    assert_eq!((&view["exit_code"], &view["verdict"]), (&1.into(), &"damaged".into()));
    assert_eq!(code(&walctl(&["checkpoint", "show", &files.dir()])), 0, "show reads the meta page alone");
    files.flip(0);
    assert_eq!(code(&walctl(&["checkpoint", "show", &files.dir()])), 1);
}

#[test]
fn a_torn_page_that_the_log_restores_is_no_damage() {
    let files = Files::new();
    // The page of the first key since the checkpoint, which the checkpoint wrote and so has an image in the log.
    files.flip(1);
    let shown = ok(&["checkpoint", "verify", &files.dir()]);
    assert!(shown.contains("torn page: pages, page 1") && shown.contains("verdict     sound"), "{shown}");
    assert!(shown.contains("1 torn page restored"), "{shown}");
}

#[test]
fn without_the_memory_it_says_what_was_not_judged() {
    let files = Files::new();
    let output = walctl(&["checkpoint", "verify", &files.dir(), "--memory", "1KiB"]);
    assert_eq!(code(&output), 0);
    assert!(text(&output).contains("verdict     not all judged"), "{}", text(&output));
    assert!(words(&output).contains("warning: not judged: the tree"), "{}", words(&output));
}

#[test]
fn a_directory_without_a_store_is_a_wrong_path() {
    let files = Files::closed();
    for dir in [files.path().join("wal"), files.path().join("nothing")] {
        let dir = dir.into_os_string().into_string().expect("the path is UTF-8");
        for command in ["show", "verify"] {
            let output = walctl(&["checkpoint", command, &dir]);
            assert_eq!(code(&output), 2, "{command} {dir}: {}", words(&output));
        }
    }
    fs::write(files.path().join("checkpoint"), [1; 4096]).expect("the file can be written");
    assert_eq!(code(&walctl(&["checkpoint", "verify", &files.dir()])), 1);
}

#[test]
fn dump_decodes_the_records_of_a_store() {
    let files = Files::new();
    let log = format!("{}/wal", files.dir());
    let shown = ok(&["dump", &log, "--payload", "tree", "--type", "8193"]);
    assert!(shown.contains(") insert slot 0 key \"alice\" value 3 B"), "{shown}");
    assert!(shown.contains("becomes page ") && shown.contains("meta: root "), "{shown}");
    let last: Vec<Value> = ok(&["dump", &log, "--payload", "tree", "--reverse", "-n", "2", "--format", "jsonl"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    assert_eq!(last[0]["tree"]["changes"][0]["do"], "remove");
    let insert = &last[1]["tree"]["changes"][0];
    assert_eq!((&insert["do"], &insert["slot"]), (&"insert".into(), &0.into()));
    assert_eq!(insert["cells"][0]["key"], "616c696365");
    assert_eq!((&insert["cells"][0]["key_len"], &insert["cells"][0]["value_len"]), (&5.into(), &3.into()));
    assert!(insert["previous_lsn"].is_string());
    let checkpoint = ok(&["dump", &log, "--payload", "tree", "--type", "8195"]);
    assert!(checkpoint.contains("checkpoint 1: redo LSN "), "{checkpoint}");
    let images = ok(&["dump", &log, "--payload", "tree", "--type", "8194", "-n", "1", "--format", "jsonl"]);
    let images: Value = serde_json::from_str(&images).expect("a line is JSON");
    assert_eq!(images["tree"]["images"][0]["page_bytes"], 4096);
}

#[test]
fn dump_shows_other_records_and_malformed_ones_for_what_they_are() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = root.path().join("log");
    let log = wal::Wal::open(&dir, wal::Config::default()).expect("the log opens");
    let changes = wal::AppendOptions::new().record_type(checkpoint::CHANGES);
    log.append(b"hello").expect("an append works");
    log.append_with(b"hello", changes).expect("an append works");
    log.close().expect("the log closes");
    let dir = dir.into_os_string().into_string().expect("the path is UTF-8");
    let shown = ok(&["dump", &dir, "--payload", "tree"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].ends_with("  hello") && lines[2].ends_with("  malformed: the record is too short"), "{shown}");
    let shown = ok(&["dump", &dir, "--payload", "tree", "--format", "jsonl"]);
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines[0].get("tree").is_none());
    assert_eq!(lines[1]["tree"]["malformed"], "the record is too short");
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["show", "verify"] {
        let help = ok(&["checkpoint", command, "--help"]);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
}
