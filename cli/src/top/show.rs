//! One look at a log, for people.

use wal::Summary;
use wal::inspect::Statistics;

use super::View;
use super::offered::{Offered, mode, show_age};
use crate::failure::Result;
use crate::output::{Out, count, fields};
use crate::size::{show_bytes, show_nanos, show_time};
use crate::ui::{BAD, GOOD, WARNING, paint};

type Fields = Vec<(&'static str, String)>;

/// Prints a look; on a screen over the one before.
pub(super) fn show(out: &mut Out, view: &View, offered: &Offered, is_screen: bool) -> Result<()> {
    if is_screen {
        // To the upper left corner, and nothing below.
        out.text("\x1b[H\x1b[J")?;
    }
    let mut lines: Fields = vec![
        ("log", log(view, offered)),
        ("LSN", format!("{} to {}", view.start_lsn, view.end_lsn)),
        ("records", format!("{:.0}/s, {}/s of log", view.records_per_second, show_bytes(view.bytes_per_second as u64))),
    ];
    match offered {
        Offered::Live { said, .. } => lines.extend(from_process(said)),
        _ => lines.extend(from_files(view)),
    }
    lines.extend([
        (
            "segments",
            format!("{}, {} in all, {} rotations seen", view.segments, show_bytes(view.file_bytes), view.rotations),
        ),
        (
            "recovery",
            format!(
                "an open after a crash now reads {} first; here that took {:.1} ms",
                show_bytes(view.recovery_bytes),
                view.recovery_millis
            ),
        ),
        (
            "replay",
            match &view.checkpoint_lsn {
                Some(lsn) => format!("{} of log behind the checkpoint at LSN {lsn}", show_bytes(view.replay_bytes)),
                None => format!("{} of log; no checkpoint was declared", show_bytes(view.replay_bytes)),
            },
        ),
    ]);
    lines.extend(about_statistics(view, offered));
    fields(out, &lines)?;
    if is_screen { Ok(()) } else { out.line(format_args!("")) }
}

fn log(view: &View, offered: &Offered) -> String {
    match offered {
        _ if !view.in_use => format!("{}, {}", view.path, paint(WARNING, "nobody writes it")),
        Offered::Live { said, .. } => format!(
            "{}, {} by process {} since {} UTC; mode {}{}",
            view.path,
            paint(GOOD, "in use"),
            said.process,
            show_time(said.opened_micros),
            mode(said.sync_mode),
            if said.is_direct { ", direct writes" } else { "" }
        ),
        _ => format!("{}, {}", view.path, paint(GOOD, "in use")),
    }
}

/// What only the process knows.
fn from_process(said: &Statistics) -> Fields {
    let (recent, total) = (&said.recent, &said.total);
    let seconds = recent.duration.as_secs_f64().max(1e-9);
    let (group, bytes) = (&recent.group_records, &recent.group_bytes);
    let groups = if group.count == 0 {
        "none was written".to_owned()
    } else {
        let (mean, max) = (group.mean, group.max);
        format!("{mean:.1} records and {} each, at most {}", show_bytes(bytes.mean as u64), count(max, "record"))
    };
    let lag = said.next_lsn.distance_from(total.durable_lsn);
    let queued = said.next_lsn.distance_from(total.written_lsn);
    let not_durable = match (lag, queued) {
        (0, _) => "0 B: everything is".to_owned(),
        (lag, 0) => format!("{}, all handed to the operating system", show_bytes(lag)),
        (lag, queued) => {
            format!("{}, of it {} not handed to the operating system yet", show_bytes(lag), show_bytes(queued))
        }
    };
    let mut lines = vec![
        ("groups", groups),
        ("append", latencies(&recent.append)),
        ("sync", format!("{:.0}/s, {}", recent.syncs as f64 / seconds, latencies(&recent.sync))),
        ("not durable", not_durable),
    ];
    if let Some(lsn) = said.oldest_hold {
        lines.push(("held", format!("from LSN {lsn} on: truncation past it is refused")));
    }
    let troubles = [
        (total.full_refusals, "appends refused by a full disk"),
        (total.preparation_failures, "failures to prepare a segment"),
        (total.statistics_failures, "failures to write these statistics"),
    ];
    let troubles: Vec<String> =
        troubles.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !troubles.is_empty() {
        lines.push(("trouble", paint(WARNING, &format!("{} since the open", troubles.join(", ")))));
    }
    lines
}

fn latencies(summary: &Summary) -> String {
    if summary.count == 0 {
        return "none was measured".to_owned();
    }
    format!(
        "p50 {}, p99 {}, p99.9 {}, max {}",
        show_nanos(summary.p50),
        show_nanos(summary.p99),
        show_nanos(summary.p999),
        show_nanos(summary.max)
    )
}

/// What the files tell of that.
fn from_files(view: &View) -> Fields {
    vec![
        (
            "a sync",
            view.records_per_sync
                .map_or("none was seen".to_owned(), |records| format!("for every {records:.1} records")),
        ),
        (
            "not witnessed",
            format!(
                "{} behind LSN {}; durable or not, nothing on disk says so yet",
                show_bytes(view.unwitnessed_bytes),
                view.witnessed_lsn
            ),
        ),
    ]
}

fn about_statistics(view: &View, offered: &Offered) -> Fields {
    let (words, said) = match offered {
        Offered::Live { said, age } => {
            let recent = said.recent.duration.as_secs_f64();
            (format!("of {recent:.2} s, written {} ago; the files say the rest", show_age(*age)), Some(said))
        }
        Offered::Stale { why, said, .. } => (paint(WARNING, &format!("stale: {why}")), Some(said)),
        Offered::Unreadable(why) => (paint(WARNING, &format!("unreadable: {why}")), None),
        Offered::Nothing if view.in_use => {
            ("not offered: latencies are known only if the program sets `statistics_interval`".to_owned(), None)
        }
        Offered::Nothing => ("none: nobody writes the log".to_owned(), None),
    };
    let mut lines = vec![("statistics", words)];
    if let Some(failure) = said.and_then(|said| said.failure.as_deref()) {
        lines.push(("failure", paint(BAD, failure)));
    }
    lines
}
