//! What the benchmarks measure with: floors, rounds, medians, tables and plots. The program is `wal-bench`; the comparison with other
//! engines in `benches/peers` uses the same.

pub mod bench;
pub mod disk;
pub mod group;
pub mod logs;
pub mod measure;
pub mod report;
pub mod sections;
pub mod svg;
