//! What the documents and the help show as commands works: each example is run as it stands there, on logs and stores with the names that it uses.

#[path = "snapshots/fixture.rs"]
mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;
use wal::{AppendOptions, Config, RecordType, SyncMode, Wal};

/// The directory with `orders` (a log), `accounts` (a store), and what else an example uses.
fn sandbox(example: &str) -> TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| home.path().join(name);
    if example.contains("--checkpoint") {
        fixture::make("sound", &at("orders"));
    } else {
        long_log(&at("orders"));
    }
    if example.contains("accounts") {
        fixture::make("store", &at("accounts"));
    }
    fs::write(at("events.txt"), "one\ntwo\nthree\n").expect("it can be written");
    fs::write(at("decode.py"), DECODER).expect("it can be written");
    let dirs = ["bash-completion/completions", "man/man1", "fish/completions"];
    let dirs = dirs.map(|dir| format!("home/.local/share/{dir} home/.config/{dir}")).join(" ");
    let line = format!("chmod +x decode.py; mkdir -p home/zsh device {dirs}");
    assert!(shell(&line, home.path()).status().expect("sh starts").success());
    home
}

/// A log that reaches past the LSNs in the examples, of a type that they ask for, without a checkpoint that would forbid them.
fn long_log(dir: &Path) {
    let config = Config { segment_bytes_max: 64 << 10, ..Config::with_mode(SyncMode::None) };
    let log = Wal::open(dir, config).expect("it opens");
    let record_type = RecordType::new(7).expect("it is small");
    for number in 0..100 {
        let payload = format!("order {number}: {}", "apples, ".repeat(120));
        log.append_with(payload.as_bytes(), AppendOptions::new().record_type(record_type)).expect("there is room");
    }
    log.close().expect("it closes");
}

/// Answers each request with the length that it names. A shell script, so that nothing has to be installed.
const DECODER: &str =
    "#!/bin/sh\nwhile read -r lsn type length; do head -c \"$length\" > /dev/null; echo \"$length\"; done\n";

/// Runs a line in the sandbox, in which the home directory and the device of the examples lie too.
fn shell(line: &str, sandbox: &Path) -> Command {
    let bin = PathBuf::from(env!("CARGO_BIN_EXE_walctl"));
    let bin = bin.parent().expect("it lies in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths =
        std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).expect("they can be joined");
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(sandbox).env("PATH", paths).env("HOME", sandbox.join("home"));
    for name in ["WAL_DIR", "CLICOLOR_FORCE"] {
        shell.env_remove(name);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// The same command for this sandbox: it answers for itself, measures for a second, ends after its first lines, and stays in the sandbox.
fn bounded(example: &str) -> String {
    let mut line =
        example.replace("/var/lib/orders", "device").replace("${fpath[1]}", "home/zsh").replace("man -l -", "cat");
    if line.ends_with("--apply") {
        line += " --yes";
    }
    for (option, short) in
        [("--secs", "1"), ("--threads", "1"), ("--mode", "none"), ("--interval", "10ms"), ("-n", "2")]
    {
        let is_meant = match option {
            "--secs" => line.starts_with("walctl bench") || line.starts_with("walctl fsync-test"),
            "--threads" | "--mode" => line.starts_with("walctl bench"),
            "--interval" => line.starts_with("walctl top"),
            _ => line.starts_with("walctl top") || line.contains("--follow"),
        };
        if is_meant {
            line = with_option(&line, option, short);
        }
    }
    line
}

/// The command with another value of an option.
fn with_option(line: &str, option: &str, value: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    if let Some(at) = words.iter().position(|word| *word == option) {
        words.drain(at..at + 2);
    }
    words.extend([option, value]);
    words.join(" ")
}

fn check(place: &str, examples: &[String]) {
    assert!(!examples.is_empty(), "{place} shows no examples");
    for example in examples {
        let sandbox = sandbox(example);
        let output = shell(&bounded(example), sandbox.path()).output().expect("sh starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {example}: {:?}: {words}", output.status.code());
    }
}

fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_walctl")).args(["help"]).args(command.split(' ')).output();
    String::from_utf8(output.expect("it starts").stdout).expect("it is text")
}

fn examples_of(command: &str) -> Vec<String> {
    let help = help(command);
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("no examples for {command}"));
    examples.lines().map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

#[test]
fn every_example_in_the_help_works() {
    let commands = "append dump info ls stat verify truncate repair demo bench fsync-test top completions man";
    let commands: Vec<&str> = commands.split(' ').chain(["checkpoint show", "checkpoint verify"]).collect();
    // Most of the time goes into examples that measure, and those wait more than they work.
    thread::scope(|scope| {
        for command in commands {
            scope.spawn(move || check(command, &examples_of(command)));
        }
    });
}

#[test]
fn every_example_in_the_table_of_the_readme_works() {
    let readme = include_str!("../../README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `") && line.contains("walctl "));
    let example = |row: &str| {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().expect("a row has cells");
        cell.trim_matches('`').replace("\\|", "|")
    };
    let examples: Vec<String> = rows.map(example).filter(|line| line.contains("walctl ")).collect();
    assert!(examples.len() > 10, "{examples:?}");
    check("README.md", &examples);
}

#[test]
fn the_commands_of_the_quickstart_work_in_their_order() {
    let quickstart = include_str!("../../specs/guide/quickstart.md");
    let (_, part) = quickstart.split_once("## 2. ").expect("the part with commands");
    let block = part.split("```").nth(1).expect("a block").trim_start_matches("sh\n");
    let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with("cargo ")).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    let home = tempfile::tempdir().expect("a temporary directory");
    let output = shell(&format!("set -e; {}", lines.join("\n")), home.path()).output().expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(text.contains("1000\n") && text.contains("nothing: the log is sound"), "{text}");
}

#[test]
fn every_command_in_the_guide_of_the_operator_is_one() {
    // Its session is run by the snapshots. Here are those in its sentences.
    let guide = include_str!("../../specs/guide/operator.md");
    let commands: Vec<String> = guide
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("walctl ") && code.contains("DIR"))
        .map(|code| {
            let dir = if code.starts_with("walctl checkpoint") { "accounts" } else { "orders" };
            code.replace("DIR", dir).replace('\n', " ")
        })
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    check("operator.md", &commands);
}

/// The names of all fields, at any depth.
fn fields(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            into.insert(name.clone());
            fields(value, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| fields(item, into)),
        _ => {}
    }
}

#[test]
fn every_machine_format_is_json_with_a_schema_and_every_field_is_documented() {
    let shapes = include_str!("../../specs/walctl-json.md");
    let home = tempfile::tempdir().expect("a temporary directory");
    for (name, fixture) in
        [("orders", "sound"), ("damaged", "corrupt payload"), ("torn", "torn"), ("accounts", "store")]
    {
        fixture::make(fixture, &home.path().join(name));
    }
    let commands = [
        "info orders",
        "info torn",
        "verify damaged",
        "ls orders",
        "stat orders",
        "repair damaged",
        "repair damaged --apply --yes -q",
        "truncate orders --checkpoint",
        "truncate orders --after 16000 --apply --yes -q",
        "append orders --ack -q --input lines.txt",
        "dump orders --payload utf8 --max-bytes 3",
        "dump orders --decoder cat -n 1",
        "dump accounts/wal --payload tree",
        "checkpoint show accounts",
        "checkpoint verify accounts",
        "top orders -n 1 --interval 1ms",
        "bench --mode none --threads 1 --secs 1",
        "fsync-test . --secs 1 --size 512",
        "demo",
    ];
    fs::write(home.path().join("lines.txt"), "one\n\u{fffd}\n").expect("it can be written");
    let mut unknown = BTreeSet::new();
    for command in commands {
        let is_slow = ["bench", "fsync-test", "demo"].iter().any(|slow| command.starts_with(slow));
        for format in if is_slow { &["json"][..] } else { &["json", "jsonl"] } {
            let line = format!("walctl {command} --format {format}");
            let output = shell(&line, home.path()).output().expect("sh starts");
            let text = String::from_utf8(output.stdout).expect("it is text");
            let values: Vec<Value> = if *format == "jsonl" || command.starts_with("append") {
                text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
            } else {
                vec![serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))]
            };
            assert!(!values.is_empty(), "{line} prints nothing");
            for value in values {
                assert_eq!(value["schema"], 1, "{line}: {value}");
                let mut names = BTreeSet::new();
                fields(&value, &mut names);
                names.retain(|name| !shapes.contains(&format!("`{name}`")));
                unknown.extend(names.into_iter().map(|name| format!("{command}: {name}")));
            }
        }
    }
    assert!(unknown.is_empty(), "not in specs/walctl-json.md: {unknown:#?}");
}
