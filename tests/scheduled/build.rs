//! Makes this package's copy of the log use the scheduler's locks, atomics and threads.

fn main() {
    println!("cargo::rustc-cfg=wal_scheduled");
    println!("cargo::rerun-if-changed=build.rs");
}
