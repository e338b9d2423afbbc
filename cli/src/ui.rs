//! How a command speaks: in which form, with colours or without, how much, and whether it shows its progress.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::{Format, Manners, When};
use crate::failure::{Failure, Result};
use crate::output::say;

/// What is right.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What stands over a column.
pub(crate) const HEADING: Style = Style::new().bold();

/// How a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    pub(crate) format: Format,
    pub(crate) is_quiet: bool,
    pub(crate) is_verbose: bool,
    shows_progress: bool,
}

impl Ui {
    /// From the options. The choice of colours holds for the whole process.
    pub(crate) fn new(manners: &Manners) -> Ui {
        match manners.color {
            When::Auto => ColorChoice::Auto,
            When::Always => ColorChoice::Always,
            When::Never => ColorChoice::Never,
        }
        .write_global();
        Ui {
            format: manners.format,
            is_quiet: manners.quiet,
            is_verbose: manners.verbose,
            shows_progress: !manners.quiet && !manners.no_progress && io::stderr().is_terminal(),
        }
    }

    /// A bar on standard error for work that is counted in bytes, if that is a terminal.
    pub(crate) fn bar(&self, what: &'static str) -> Bar {
        self.bar_like(what, "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// As [`Ui::bar`], for work that is counted in steps.
    pub(crate) fn steps(&self, what: &'static str) -> Bar {
        self.bar_like(what, "{msg} [{wide_bar}] {pos}/{len} {eta}")
    }

    fn bar_like(&self, what: &'static str, template: &str) -> Bar {
        if !self.shows_progress {
            return Bar { bar: ProgressBar::hidden(), total: AtomicU64::new(0) };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template(template).expect("the templates are constant and right");
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what);
        Bar { bar, total: AtomicU64::new(0) }
    }
}

/// Whether a change may be made: it is shown first, made with `--apply`, and confirmed on a terminal or with `--yes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consent {
    is_applying: bool,
    is_asking: bool,
}

impl Consent {
    /// From the options; without a terminal there is nobody to ask.
    pub(crate) fn new(apply: bool, yes: bool) -> Result<Consent> {
        let is_asking = apply && !yes;
        if is_asking && !io::stdin().is_terminal() {
            return Err(Failure::usage(
                "--apply removes data for good and nobody can be asked here: give --yes as well",
            ));
        }
        Ok(Consent { is_applying: apply, is_asking })
    }

    /// Whether a change was asked for, be it confirmed or not.
    pub(crate) fn is_applying(self) -> bool {
        self.is_applying
    }

    /// Asks, if somebody is to be asked. The question goes to standard error, so that standard output holds the plan alone.
    pub(crate) fn is_given(self, question: &str, ui: Ui) -> Result<bool> {
        if !self.is_applying {
            if !ui.is_quiet {
                say(format_args!("walctl: nothing was changed; give --apply to carry it out"));
            }
            return Ok(false);
        }
        if !self.is_asking {
            return Ok(true);
        }
        let ask = |error| Failure::io("ask on the terminal", error);
        write!(io::stderr().lock(), "{question} [y/N] ").map_err(ask)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(ask)?;
        let is_given = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
        if !is_given {
            say(format_args!("walctl: nothing was changed"));
        }
        Ok(is_given)
    }
}

/// A progress bar; removed when it is dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
    total: AtomicU64,
}

impl Bar {
    /// Shows how far the work is.
    pub(crate) fn show(&self, bytes_done: u64, bytes_total: u64) {
        if self.total.swap(bytes_total, Ordering::Relaxed) != bytes_total {
            self.bar.set_length(bytes_total);
        }
        self.bar.set_position(bytes_done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Text in a style, if standard output shows styles.
pub(crate) fn paint(style: Style, text: &str) -> String {
    if AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}

/// Text in a style, if standard error shows styles.
pub(crate) fn paint_words(style: Style, text: &str) -> String {
    if AutoStream::choice(&io::stderr()) == ColorChoice::Never {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}
