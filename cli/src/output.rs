//! Standard output and standard error: lines, tables, JSON. A closed pipe is an ordinary end and never a panic.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use anstyle::Style;
use serde::Serialize;

use crate::args::Format;
use crate::failure::{Failure, Result};
use crate::ui::{HEADING, WARNING, paint, paint_words};

/// The number of the shapes in `specs/walctl-json.md`. It grows when a field changes its meaning or goes, not when one is added.
pub(crate) const SCHEMA: u32 = 1;

/// What every JSON document and every line of JSON begins with.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    kind: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

/// Says something on standard error. If that is closed, nobody is left to be told, so a failure is passed over.
pub(crate) fn say(words: fmt::Arguments<'_>) {
    let line = format!("{words}\n");
    match io::stderr().lock().write_all(line.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

/// Says something that deserves a look, whether or not words were asked for.
pub(crate) fn warn(words: fmt::Arguments<'_>) {
    say(format_args!("walctl: {}: {words}", paint_words(WARNING, "warning")));
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
pub(crate) struct Out(BufWriter<Sink>);

enum Sink {
    Stdout(StdoutLock<'static>),
    Nowhere,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(stdout) => stdout.write(bytes),
            Sink::Nowhere => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::Nowhere => Ok(()),
        }
    }
}

impl Out {
    pub(crate) fn new() -> Out {
        Out(BufWriter::with_capacity(64 << 10, Sink::Stdout(io::stdout().lock())))
    }

    /// For words to people where a machine asked.
    pub(crate) fn nowhere() -> Out {
        Out(BufWriter::new(Sink::Nowhere))
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        self.0.write_fmt(line).and_then(|()| self.0.write_all(b"\n")).map_err(Failure::stdout)
    }

    /// Writes a value as one line of JSON of this kind.
    pub(crate) fn json(&mut self, kind: &str, value: &impl Serialize) -> Result<()> {
        self.json_line(&Document { schema: SCHEMA, kind, value })
    }

    /// Writes a value, which has its schema number, as one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.0, value)
            .map_err(io::Error::from)
            .and_then(|()| self.0.write_all(b"\n"))
            .map_err(Failure::stdout)
    }

    /// Writes a value as JSON of this kind, in the form that was asked for; `false` if that is not JSON.
    pub(crate) fn document(&mut self, format: Format, kind: &str, value: &impl Serialize) -> Result<bool> {
        match format {
            Format::Table => return Ok(false),
            Format::Jsonl => self.json(kind, value)?,
            Format::Json => serde_json::to_writer_pretty(&mut self.0, &Document { schema: SCHEMA, kind, value })
                .map_err(io::Error::from)
                .and_then(|()| self.0.write_all(b"\n"))
                .map_err(Failure::stdout)?,
        }
        Ok(true)
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.0.write_all(text.as_bytes()).map_err(Failure::stdout)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(Failure::stdout)
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

/// What stands in one place of a table.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text in a style.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), style: Style::new() }
    }
}

/// A table whose columns are as wide as their widest cell.
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[(&str, Align)]) -> Table {
        let first = headings.iter().map(|(heading, _)| Cell::styled(*heading, HEADING)).collect();
        Table { columns: headings.iter().map(|(_, align)| *align).collect(), rows: vec![first] }
    }

    /// Adds a row, which has as many cells as there are headings.
    pub(crate) fn row<C: Into<Cell>>(&mut self, cells: Vec<C>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each heading");
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn lines(&self) -> Vec<String> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].text.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &Vec<Cell>| {
            // Nothing is filled up behind the last word of a line.
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            let cell = |(column, cell): (usize, &Cell)| {
                let gap = " ".repeat(widths[column] - cell.text.chars().count());
                let painted =
                    if cell.style == Style::new() { cell.text.clone() } else { paint(cell.style, &cell.text) };
                match self.columns[column] {
                    Align::Left if column == last => painted,
                    Align::Left => painted + &gap,
                    Align::Right => gap + &painted,
                }
            };
            row[..=last].iter().enumerate().map(cell).collect::<Vec<_>>().join("  ")
        };
        self.rows.iter().map(line).collect()
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
        table.row(vec!["10", "a"]);
        table.row(vec!["7", ""]);
        assert_eq!(table.lines(), [" N  WORD", "10  a", " 7"]);
    }
}
