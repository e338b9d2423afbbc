//! What was measured, as a table, as JSON, and in the format of HdrHistogram.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Measured;
use crate::failure::{Failure, Result};
use crate::output::{Align, Out, Table};
use crate::size::{show_bytes, show_nanos};
use crate::ui::Ui;

#[derive(Serialize)]
struct Report {
    size: u64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    mode: &'static str,
    threads: u16,
    appends_per_second: f64,
    measured_at_per_second: f64,
    appends: u64,
    p50_nanos: u64,
    p99_nanos: u64,
    p999_nanos: u64,
    max_nanos: u64,
    floor: &'static str,
    floor_p50_nanos: u64,
    ratio_to_floor: f64,
}

fn row(measured: &Measured) -> Row {
    let quantile = |quantile| measured.nanos.value_at_quantile(quantile);
    let floor_p50_nanos = measured.floor.value_at_quantile(0.5).max(1);
    Row {
        mode: measured.mode,
        threads: measured.threads,
        appends_per_second: measured.rate,
        measured_at_per_second: measured.load,
        appends: measured.nanos.len(),
        p50_nanos: quantile(0.5),
        p99_nanos: quantile(0.99),
        p999_nanos: quantile(0.999),
        max_nanos: measured.nanos.max(),
        floor: measured.floor_way.name(),
        floor_p50_nanos,
        ratio_to_floor: quantile(0.5) as f64 / floor_p50_nanos as f64,
    }
}

/// Prints the rows in the form that was asked for.
pub(super) fn show(out: &mut Out, size: u64, measured: &[Measured], ui: Ui) -> Result<()> {
    let rows: Vec<Row> = measured.iter().map(row).collect();
    let report = Report { size, rows };
    if out.document(ui.format, "bench", &report)? {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("MODE", Align::Left),
        ("THREADS", Align::Right),
        ("APPENDS/S", Align::Right),
        ("AT/S", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("P99.9", Align::Right),
        ("MAX", Align::Right),
        ("FLOOR P50", Align::Right),
        ("RATIO", Align::Right),
        ("FLOOR", Align::Left),
    ]);
    for row in &report.rows {
        table.row(vec![
            row.mode.to_owned(),
            row.threads.to_string(),
            format!("{:.0}", row.appends_per_second),
            format!("{:.0}", row.measured_at_per_second),
            show_nanos(row.p50_nanos),
            show_nanos(row.p99_nanos),
            show_nanos(row.p999_nanos),
            show_nanos(row.max_nanos),
            show_nanos(row.floor_p50_nanos),
            format!("{:.2}", row.ratio_to_floor),
            row.floor.to_owned(),
        ]);
    }
    out.table(&table)?;
    out.line(format_args!(""))?;
    out.line(format_args!(
        "Records of {}. APPENDS/S is as fast as they go. Latencies are those at the rate AT/S, each counted from",
        show_bytes(size)
    ))?;
    out.line(format_args!(
        "the moment at which its append was due. FLOOR is one thread that does the same without a log, in this run."
    ))
}

/// Writes each row's latencies, in microseconds.
pub(super) fn write_histograms(file: &Path, measured: &[Measured]) -> Result<()> {
    for row in measured {
        let path = if measured.len() == 1 { file.to_owned() } else { named(file, row) };
        std::fs::write(&path, percentiles(&row.nanos))
            .map_err(|error| Failure::io(format!("write {}", path.display()), error))?;
    }
    Ok(())
}

fn named(file: &Path, row: &Measured) -> PathBuf {
    let stem = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let extension = file.extension().map_or_else(|| "hgrm".into(), |extension| extension.to_string_lossy());
    file.with_file_name(format!("{stem}-{}-{}.{extension}", row.mode, row.threads))
}

/// The text that the plotters of HdrHistogram read.
fn percentiles(nanos: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in nanos.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to() as f64 / 1e3;
        // Writing to a string does not fail.
        let written = if quantile < 1.0 {
            writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10} {:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10}")
        };
        debug_assert!(written.is_ok());
    }
    text += &format!("#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n", nanos.mean() / 1e3, nanos.stdev() / 1e3);
    text += &format!("#[Max     = {:>12.3}, Total count    = {:>12}]\n", nanos.max() as f64 / 1e3, nanos.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentiles_end_with_all_values_and_the_maximum() {
        let mut nanos = Histogram::new(3).expect("three digits are allowed");
        (1..=1000).for_each(|value: u64| nanos.saturating_record(value * 1000));
        let text = percentiles(&nanos);
        let last = text.lines().rfind(|line| !line.starts_with('#')).expect("a line");
        assert!(last.contains("1.000000000000") && last.trim_end().ends_with("1000"), "{last}");
        assert!(text.contains("Max     ="), "{text}");
    }
}
