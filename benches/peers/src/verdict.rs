//! Who is ahead: ours against the floor and against the best peer.

use std::fmt::Write;

use serde_json::{Value, json};
use wal_benches::measure::{Sample, Series};
use wal_benches::report::{grouped, nanos};

/// One line of the comparison.
pub struct Verdict {
    label: String,
    ours: f64,
    of_floor: Option<f64>,
    best: Option<(String, f64)>,
    p999: f64,
    /// What p99.9 is in parts of that of the best peer.
    p999_of_best: Option<f64>,
}

impl Verdict {
    /// Compares ours with the floor, if there is one, and with the peer that is the fastest of those that do the same work.
    pub fn new(label: String, ours: &Series, floor: Option<&Series>, peers: &[&Series]) -> Verdict {
        let rate = |series: &&&Series| series.median(Sample::rate);
        let best = peers.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)));
        let p999 = |sample: &Sample| sample.quantile(0.999);
        Verdict {
            label,
            ours: ours.median(Sample::rate),
            of_floor: floor.map(|floor| ours.ratio(floor, Sample::rate)),
            best: best.map(|best| (best.name.trim().to_owned(), ours.ratio(best, Sample::rate))),
            p999: ours.median(p999),
            p999_of_best: best.map(|best| ours.ratio(best, p999)),
        }
    }

    fn cells(&self) -> [String; 7] {
        let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        [
            self.label.clone(),
            grouped(self.ours),
            ratio(self.of_floor),
            self.best.as_ref().map_or_else(|| "-".to_owned(), |(name, _)| name.clone()),
            ratio(self.best.as_ref().map(|(_, ratio)| *ratio)),
            nanos(self.p999),
            ratio(self.p999_of_best),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "label": self.label,
            "ours_per_second": self.ours,
            "of_floor": self.of_floor,
            "best_peer": self.best.as_ref().map(|(name, _)| name),
            "times_best_peer": self.best.as_ref().map(|(_, ratio)| ratio),
            "p999_ns": self.p999,
            "p999_of_best_peer": self.p999_of_best,
        })
    }
}

const TITLES: [&str; 7] = ["", "ours/s", "of floor", "best peer", "times best", "p99.9", "of best's"];

/// The comparison as text.
pub fn text(name: &str, verdicts: &[Verdict]) -> String {
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(verdicts.iter().map(Verdict::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = format!("{name}, ours against floor and best peer\n");
    for line in &lines {
        write!(text, "  {:<width$}", line[0], width = widths[0]).expect("a string takes everything");
        for (cell, width) in line[1..].iter().zip(&widths[1..]) {
            write!(text, "  {cell:>width$}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

/// The comparison with all digits.
pub fn json(name: &str, verdicts: &[Verdict]) -> Value {
    json!({ "name": format!("{name}-verdict"), "rows": verdicts.iter().map(Verdict::json).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn series(name: &str, nanos: u64) -> Series {
        Series { name: name.to_owned(), samples: vec![Sample::once(Duration::from_nanos(nanos), 1, 1)] }
    }

    #[test]
    fn ours_is_compared_with_the_fastest_peer() {
        let (ours, floor, slow, fast) =
            (series("ours", 200), series("floor", 100), series("slow", 800), series("fast", 400));
        let verdict = Verdict::new("4".to_owned(), &ours, Some(&floor), &[&slow, &fast]);
        assert_eq!(verdict.cells(), ["4", "5,000,000", "0.50", "fast", "2.00", "200 ns", "0.50"].map(str::to_owned));
    }

    #[test]
    fn without_peers_there_is_nothing_to_be_ahead_of() {
        let verdict = Verdict::new("1".to_owned(), &series("ours", 100), None, &[]);
        assert_eq!(verdict.cells(), ["1", "10,000,000", "-", "-", "-", "100 ns", "-"].map(str::to_owned));
    }
}
