//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return wal_real::run();
    #[cfg(not(target_os = "linux"))]
    {
        println!("skipped: this needs Linux");
        ExitCode::SUCCESS
    }
}
