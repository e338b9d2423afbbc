//! smoke
use wal::*;
#[test]
fn smoke() {
    for mode in [SyncMode::Sync, SyncMode::BATCH_DEFAULT, SyncMode::None] {
        let dir = std::env::temp_dir().join(format!("wal-smoke-{}", std::process::id()));
        let config = Config { segment_bytes_max: 64 << 10, ..Config::with_mode(mode) };
        let log = Wal::open(&dir, config.clone()).unwrap();
        let mut lsns = vec![];
        for i in 0..5000 {
            lsns.push(log.append(format!("record {i}").as_bytes()).unwrap());
        }
        let log2 = log.clone();
        std::thread::scope(|s| {
            for t in 0..4 {
                let log = &log2;
                s.spawn(move || {
                    for i in 0..500 {
                        log.append(format!("t{t} {i} {}", "x".repeat(i)).as_bytes()).unwrap();
                    }
                });
            }
        });
        log.flush().unwrap();
        assert_eq!(log.reader(Lsn::ZERO).unwrap().collect::<Result<Vec<_>>>().unwrap().len(), 7000);
        println!("{:?}", log.truncate_before(lsns[3000]).unwrap());
        assert_eq!(log.reader(Lsn::ZERO).unwrap().collect::<Result<Vec<_>>>().unwrap().len(), 4000);
        assert_eq!(log.read(lsns[3100]).unwrap().payload, b"record 3100");
        println!("{:?}", log.stats());
        log.close().unwrap();
        drop(log);
        drop(log2);
        let log = Wal::open(&dir, config.clone()).unwrap();
        println!("{:?}", log.recovery_report());
        assert_eq!(log.reader(Lsn::ZERO).unwrap().collect::<Result<Vec<_>>>().unwrap().len(), 4000);
        println!("{:?}", log.truncate_after(lsns[4000]).unwrap());
        log.append(b"after").unwrap();
        log.flush().unwrap();
        assert_eq!(log.reader(Lsn::ZERO).unwrap().collect::<Result<Vec<_>>>().unwrap().len(), 1002);
        log.close().unwrap();
        let reader = LogReader::open(&dir).unwrap();
        assert_eq!(reader.reader(Lsn::ZERO).unwrap().collect::<Result<Vec<_>>>().unwrap().len(), 1002);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
