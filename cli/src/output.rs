//! Standard output and standard error: lines, tables, JSON. A closed pipe is an ordinary end and never a panic.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::failure::{Failure, Result};

/// Says something on standard error. If that is closed, nobody is left to be told, so a failure is passed over.
pub(crate) fn say(words: fmt::Arguments<'_>) {
    let line = format!("{words}\n");
    match io::stderr().lock().write_all(line.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

/// How many columns the terminal has; 100 if there is none.
pub(crate) fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0).max(40))
}

/// "1 segment", "2 segments".
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Buffered standard output. [`Out::finish`] must be called at the end.
pub(crate) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub(crate) fn new() -> Out {
        Out(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        self.0.write_fmt(line).and_then(|()| self.0.write_all(b"\n")).map_err(Failure::stdout)
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.0, value)
            .map_err(io::Error::from)
            .and_then(|()| self.0.write_all(b"\n"))
            .map_err(Failure::stdout)
    }

    /// Writes a value as JSON for people.
    pub(crate) fn json_pretty(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.0, value)
            .map_err(io::Error::from)
            .and_then(|()| self.0.write_all(b"\n"))
            .map_err(Failure::stdout)
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<()> {
        table.lines().iter().try_for_each(|line| self.line(format_args!("{line}")))
    }

    /// Writes out what is buffered.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.0.flush().map_err(Failure::stdout)
    }
}

/// On which side a column is filled up with spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table whose columns are as wide as their widest cell.
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[(&str, Align)]) -> Table {
        let first = headings.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        Table { columns: headings.iter().map(|(_, align)| *align).collect(), rows: vec![first] }
    }

    /// Adds a row, which has as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each heading");
        self.rows.push(cells);
    }

    fn lines(&self) -> Vec<String> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let cell = |(column, text): (usize, &String)| match self.columns[column] {
            Align::Left => format!("{text:<0$}", widths[column]),
            Align::Right => format!("{text:>0$}", widths[column]),
        };
        let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        self.rows.iter().map(|row| line(row).trim_end().to_owned()).collect()
    }
}

/// Writes `NAME  VALUE` lines, the names padded to one width.
pub(crate) fn fields(out: &mut Out, fields: &[(&str, String)]) -> Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().try_for_each(|(name, value)| out.line(format_args!("{name:<width$}  {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        let mut table = Table::new(&[("N", Align::Right), ("WORD", Align::Left)]);
        table.row(vec!["10".to_owned(), "a".to_owned()]);
        table.row(vec!["7".to_owned(), String::new()]);
        assert_eq!(table.lines(), [" N  WORD", "10  a", " 7"]);
    }
}
