//! Tables, as text and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::measure::{Sample, Series};
use crate::svg::Plot;

/// How a figure is shown.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Nanoseconds, in the unit that fits.
    Nanos,
    /// A whole number.
    Count,
    /// Bytes per second, in the unit that fits.
    Throughput,
}

/// A column: what of each sample is shown, as the median over rounds.
#[derive(Clone, Copy)]
pub struct Column {
    title: &'static str,
    key: &'static str,
    unit: Unit,
    of: fn(&Sample) -> f64,
}

/// The median latency.
pub const P50: Column = Column { title: "p50", key: "p50_ns", unit: Unit::Nanos, of: |sample| sample.quantile(0.5) };
/// What 99 of 100 do not exceed.
pub const P99: Column = Column { title: "p99", key: "p99_ns", unit: Unit::Nanos, of: |sample| sample.quantile(0.99) };
/// What 999 of 1000 do not exceed.
pub const P999: Column =
    Column { title: "p99.9", key: "p999_ns", unit: Unit::Nanos, of: |sample| sample.quantile(0.999) };
/// The longest latency of a round.
pub const MAX: Column = Column { title: "max", key: "max_ns", unit: Unit::Nanos, of: |sample| sample.quantile(1.0) };
/// How long the whole operation took.
pub const TIME: Column =
    Column { title: "time", key: "time_ns", unit: Unit::Nanos, of: |sample| sample.elapsed.as_nanos() as f64 };
/// Appends per second.
pub const APPENDS: Column =
    Column { title: "appends/s", key: "appends_per_second", unit: Unit::Count, of: Sample::rate };
/// Records per second.
pub const RECORDS: Column =
    Column { title: "records/s", key: "records_per_second", unit: Unit::Count, of: Sample::rate };
/// Bytes per second.
pub const THROUGHPUT: Column =
    Column { title: "bytes/s", key: "bytes_per_second", unit: Unit::Throughput, of: Sample::throughput };
/// Bytes that were moved in a round.
pub const BYTES: Column =
    Column { title: "MB", key: "megabytes", unit: Unit::Count, of: |sample| sample.bytes as f64 / 1e6 };
/// Memory that the process has come to occupy.
pub const RESIDENT: Column =
    Column { title: "MB", key: "resident_megabytes", unit: Unit::Count, of: |sample| sample.bytes as f64 / 1e6 };
/// Operations per second.
pub const OPERATIONS: Column =
    Column { title: "ops/s", key: "operations_per_second", unit: Unit::Count, of: Sample::rate };
/// Bytes for each operation.
pub const BYTES_EACH: Column = Column {
    title: "bytes/op",
    key: "bytes_per_operation",
    unit: Unit::Count,
    of: |sample| sample.bytes as f64 / sample.count.max(1) as f64,
};
/// Changes of the active segment in a round.
pub const ROTATIONS: Column =
    Column { title: "rotations", key: "rotations", unit: Unit::Count, of: |sample| sample.rotations as f64 };
/// Truncations in a round.
pub const TRUNCATIONS: Column =
    Column { title: "truncations", key: "truncations", unit: Unit::Count, of: |sample| sample.truncations as f64 };

struct Row {
    label: String,
    /// A value for each column, and the values of the rounds it is the median of.
    values: Vec<(f64, Vec<f64>)>,
    ratio: f64,
}

/// A table, with the ratio to the floor as its last column.
pub struct Table {
    name: &'static str,
    title: &'static str,
    note: &'static str,
    ratio_title: &'static str,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

/// The result of a section.
#[derive(Default)]
pub struct Section {
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its plots.
    pub plots: Vec<Plot>,
}

impl Table {
    /// A table without rows.
    pub fn new(name: &'static str, title: &'static str, note: &'static str, columns: &[Column]) -> Table {
        Table { name, title, note, ratio_title: "of floor", columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Names the last column otherwise, where something else stands in the place of the floor.
    pub fn with_ratio_title(mut self, ratio_title: &'static str) -> Table {
        self.ratio_title = ratio_title;
        self
    }

    /// Adds a row. Its ratio is how fast it is, by `speed`, in parts of its floor.
    pub fn row(&mut self, series: &Series, floor: &Series, speed: fn(&Sample) -> f64) {
        self.labelled(series.name.clone(), series, floor, speed);
    }

    /// As [`Table::row`], with a label of its own.
    pub fn labelled(&mut self, label: String, series: &Series, floor: &Series, speed: fn(&Sample) -> f64) {
        let values = self.columns.iter().map(|column| {
            let rounds: Vec<f64> = series.samples.iter().map(column.of).collect();
            (series.median(column.of), rounds)
        });
        self.rows.push(Row { label, values: values.collect(), ratio: series.ratio(floor, speed) });
    }

    /// As text, one line a row, aligned.
    pub fn text(&self) -> String {
        let header = std::iter::once(String::new())
            .chain(self.columns.iter().map(|column| column.title.to_owned()))
            .chain([self.ratio_title.to_owned()])
            .collect();
        let mut lines: Vec<Vec<String>> = vec![header];
        for row in &self.rows {
            let cells = row.values.iter().zip(&self.columns).map(|((value, _), column)| shown(*value, column.unit));
            lines.push(std::iter::once(row.label.clone()).chain(cells).chain([format!("{:.2}", row.ratio)]).collect());
        }
        let widths: Vec<usize> = (0..self.columns.len() + 2)
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("{}: {}\n", self.name, self.title);
        for line in lines {
            write!(text, "  {:<width$}", line[0], width = widths[0]).expect("a string takes everything");
            for (cell, width) in line[1..].iter().zip(&widths[1..]) {
                write!(text, "  {cell:>width$}").expect("a string takes everything");
            }
            text.push('\n');
        }
        if !self.note.is_empty() {
            writeln!(text, "  ({})", self.note).expect("a string takes everything");
        }
        text
    }

    /// Everything that was measured, with the figures of each round.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let mut map = Map::new();
            map.insert("label".to_owned(), json!(row.label));
            let mut rounds = Map::new();
            for ((value, each), column) in row.values.iter().zip(&self.columns) {
                map.insert(column.key.to_owned(), json!(value));
                rounds.insert(column.key.to_owned(), json!(each));
            }
            map.insert("of_floor".to_owned(), json!(row.ratio));
            map.insert("rounds".to_owned(), Value::Object(rounds));
            Value::Object(map)
        });
        json!({ "name": self.name, "title": self.title, "note": self.note, "rows": rows.collect::<Vec<_>>() })
    }
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanos => nanos(value),
        Unit::Count => grouped(value),
        Unit::Throughput if value >= 1e9 => format!("{:.2} GB/s", value / 1e9),
        Unit::Throughput => format!("{:.1} MB/s", value / 1e6),
    }
}

/// Nanoseconds with three digits, in the unit that fits.
pub fn nanos(value: f64) -> String {
    let (value, unit) = match value {
        value if value < 1e3 => return format!("{value:.0} ns"),
        value if value < 1e6 => (value / 1e3, "us"),
        value if value < 1e9 => (value / 1e6, "ms"),
        value => (value / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// A whole number, its digits in groups of three.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn figures_are_readable() {
        assert_eq!(nanos(520.4), "520 ns");
        assert_eq!(nanos(82_140.0), "82.1 us");
        assert_eq!(nanos(1_234_000.0), "1.23 ms");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }

    #[test]
    fn a_table_ends_with_the_ratio() {
        let series = |nanos| Series {
            name: format!("{nanos} ns"),
            samples: vec![Sample::once(Duration::from_nanos(nanos), 1, 1)],
        };
        let mut table = Table::new("name", "title", "", &[P50, APPENDS]);
        table.row(&series(200), &series(100), Sample::rate);
        let line = table.text().lines().last().expect("there is a row").to_owned();
        assert!(line.ends_with("5,000,000      0.50"), "{line}");
        assert_eq!(table.json()["rows"][0]["rounds"]["p50_ns"][0], 200.0);
    }
}
