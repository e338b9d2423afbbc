//! One seed, one trace, to the byte.

use super::*;

/// Some of everything, with random short transfers, a fault and a crash.
fn workload(seed: u64) -> (Vec<Event>, u64) {
    let fs = SimFs::with_config(SimConfig { seed, short_transfers: true, ..SimConfig::default() });
    fs.record_trace(true);
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncAll));
    let dir = root(&fs);
    let file = dir.open("tmp", OpenMode::CreateNew).unwrap();
    for round in 0..20 {
        file.write_at(&[round; 700], 600 * u64::from(round)).unwrap();
        file.read_at(&mut [0; 900], 0).unwrap();
    }
    assert!(file.sync_all().is_err());
    dir.rename("tmp", "final").unwrap();
    file.write_at(&[0xFF; 2000], 100).unwrap();
    (fs.take_trace(), fs.crash(&CrashPlan::random(seed).with_torn_sectors()).fingerprint())
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_crash() {
    assert_eq!(workload(5), workload(5));
    assert_ne!(workload(5).0, workload(6).0);
}

#[test]
fn the_trace_is_readable() {
    let (fs, file) = with_file(b"old");
    fs.record_trace(true);
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
    file.write_at(b"", 3).unwrap();
    root(&fs).rename("a", "b").unwrap();
    assert!(file.sync_data().is_err());
    assert!(root(&fs).open("a", OpenMode::Read).is_err());
    let lines: Vec<String> = fs.take_trace().iter().map(Event::to_string).collect();
    assert_eq!(lines[1..4], ["3 open_dir / = 0", "4 rename /a to b = 0", "5 sync_data /a = error 5 by Error(5)"]);
    assert!(lines[0].starts_with("2 write /a 3+0 = 0 #"));
    assert_eq!(lines[5], "7 open /a = NotFound");
}

/// A workload that touches every operation, and its trace as text.
fn text_of_everything(seed: u64) -> Vec<String> {
    let fs = SimFs::with_config(SimConfig {
        short_transfers: true,
        interrupts: true,
        ..SimConfig::profile(Profile::Cruellest, seed)
    });
    fs.record_trace(true);
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).percent(20).times(2));
    fs.plan(Fault::new(Effect::FlushError(errno::EIO)).on(Operation::SyncData).skip(1));
    fs.create_dir(Path::new("/d")).unwrap();
    let dir = fs.open_dir(Path::new("/d")).unwrap();
    let _lock = dir.try_lock("lock").unwrap();
    let file = dir.open("a", OpenMode::CreateNew).unwrap();
    let (mut at, mut buf) = (0, [0; 700]);
    for round in 0..6_u8 {
        at += file.write_at(&[round + 1; 1000], at).unwrap_or(0) as u64;
        file.read_at(&mut buf, at / 2).unwrap_or(0);
    }
    let syncs = [file.sync_data(), file.sync_data(), file.sync_all()];
    assert_eq!(syncs.iter().filter(|sync| sync.is_err()).count(), 1);
    file.set_len(100).unwrap();
    assert_eq!(file.len().unwrap(), 100);
    let direct = dir.open("a", OpenMode::WriteDirect).unwrap();
    direct.write_at(&[9; 512], 512).unwrap_or(0);
    dir.rename("a", "b").unwrap();
    dir.remove("b").unwrap();
    dir.list().unwrap();
    dir.sync().unwrap();
    fs.take_trace().iter().map(Event::to_string).collect()
}

#[test]
fn the_trace_of_a_seed_is_the_same_on_every_machine_and_in_every_build() {
    let lines = text_of_everything(12);
    let expected: Vec<&str> = include_str!("traces/everything.txt").lines().collect();
    assert_eq!(lines, expected, "\n{}", lines.join("\n"));
    assert_ne!(lines, text_of_everything(1000));
}

#[test]
fn a_crash_of_a_crash_of_a_crash_is_reproduced_by_its_seeds() {
    let three_deep = |seed: u64| {
        let mut fs = SimFs::with_config(SimConfig::profile(Profile::Cruellest, seed));
        let mut prints = Vec::new();
        for depth in 0..3_u64 {
            let dir = root(&fs);
            for name in ["a", "b", "c"] {
                let file = dir.open(name, OpenMode::CreateNew).or_else(|_| dir.open(name, OpenMode::Write)).unwrap();
                file.write_at(&[depth as u8 + 1; 5000], 700 * depth).unwrap();
                if depth == 1 {
                    file.sync_data().unwrap();
                }
            }
            fs = fs.crash(&CrashPlan::random(seed ^ depth).with_torn_sectors().with_damaged_neighbours());
            prints.push(fs.fingerprint());
        }
        prints
    };
    assert_eq!(three_deep(3), three_deep(3));
    assert_ne!(three_deep(3), three_deep(4));
}

#[test]
fn equal_bytes_have_equal_fingerprints_however_they_came_about() {
    let (fs, file) = with_file(&[1; 9000]);
    let before = fs.fingerprint();
    file.write_at(&[2; 5000], 1000).unwrap();
    let changed = fs.fingerprint();
    assert_ne!(changed, before);
    file.write_at(&[1; 5000], 1000).unwrap();
    assert_eq!(fs.fingerprint(), before);
    file.set_len(9001).unwrap();
    assert_ne!(fs.fingerprint(), before, "a zero more is another file");
    file.set_len(9000).unwrap();
    assert_eq!(fs.fingerprint(), before);
    assert_eq!(fs.kill().fingerprint(), before);
    fs.flip_bit("a", 8999, 7).unwrap();
    assert_ne!(fs.fingerprint(), before);
    root(&fs).rename("a", "b").unwrap();
    fs.flip_bit("b", 8999, 7).unwrap();
    assert_ne!(fs.fingerprint(), before, "names count");
}

#[test]
fn the_fingerprint_of_a_state_tells_what_a_crash_would_decide_about() {
    let settled = || with_file(&[1; 2000]);
    let (fs, file) = settled();
    let before = (fs.fingerprint(), fs.state_fingerprint());
    let print = |fs: &SimFs| (fs.fingerprint(), fs.state_fingerprint());
    assert_eq!(print(&settled().0), before);

    // The same bytes in the end, by way of others.
    file.write_at(&[2; 100], 0).unwrap();
    file.write_at(&[1; 100], 0).unwrap();
    let (live, state) = print(&fs);
    assert!(live == before.0 && state != before.1);
    assert_eq!(print(&fs.kill()), (live, state), "the death of the process decides nothing");
    assert_eq!(print(&lost(&fs)), before);
    file.sync_data().unwrap();
    assert_eq!(print(&fs), before);

    // The same names in the end.
    let dir = root(&fs);
    dir.rename("a", "b").unwrap();
    dir.rename("b", "a").unwrap();
    let (live, state) = print(&fs);
    assert!(live == before.0 && state != before.1);
    dir.sync().unwrap();
    assert_eq!(print(&fs), before);

    // The same, but the disk has not got it.
    file.write_at(&[3; 100], 0).unwrap();
    let dirty = print(&fs);
    let failed = fs.kill();
    failed.fail_write_back("a", errno::EIO).unwrap();
    file.sync_data().unwrap();
    let synced = print(&fs);
    assert!(dirty.0 == synced.0 && dirty.1 != synced.1);
    assert!(print(&failed).0 == synced.0 && ![dirty.1, synced.1].contains(&print(&failed).1));
}

#[test]
fn two_names_of_one_file_have_another_fingerprint_than_two_equal_files() {
    let (fs, _file) = with_file(b"x");
    let copied = fs.kill();
    copied.copy_file("a", "b").unwrap();
    root(&fs).rename("a", "b").unwrap();
    let plan = fs.outcomes(2).unwrap().find(|plan| fs.crash(plan).names("/").unwrap().len() == 2).unwrap();
    let linked = fs.crash(&plan);
    assert_eq!(linked.read_file("a").unwrap(), copied.read_file("a").unwrap());
    assert_eq!(linked.read_file("b").unwrap(), copied.read_file("b").unwrap());
    assert_ne!(linked.fingerprint(), copied.fingerprint());
}
