//! The latencies as a picture: a panel for each mode, in it a line for each number of threads, and their floors, dashed.

use hdrhistogram::Histogram;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange, LogCoord, WithKeyPoints};
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{PathElement, Text};
use plotters::prelude::{Cartesian2d, SVGBackend};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::{LOAD_PERCENT, Measured};
use crate::device::Way;
use crate::failure::{Exit, Failure, Result};
use crate::size::{show_bytes, show_nanos};

const PANEL_WIDTH: u32 = 430;
const WIDTH_MIN: u32 = 2 * PANEL_WIDTH;
const TITLE_HEIGHT: u32 = 60;
const PLOT_HEIGHT: u32 = 400;
const HEADING_HEIGHT: u32 = 22;
const LEGEND_HEIGHT: u32 = 18;
/// Where titles, headings and legends begin: above the left end of the plot, in each panel.
const LEFT: u32 = 76;
const RIGHT: u32 = 20;
const MARGIN: u32 = 8;
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const GRID: RGBColor = RGBColor(0xc4, 0xc9, 0xd0);
const FINE_GRID: RGBColor = RGBColor(0xec, 0xee, 0xf1);
const FLOOR: RGBColor = RGBColor(0x3c, 0x42, 0x4a);
/// One for each number of threads; people who see few colours tell them apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x7f, 0x3c, 0x8d),
];
/// The axis of shares: one append in so many takes longer. From 90% on, each leaves out ten times fewer than the one before.
const SHARES: [(f64, &str); 6] =
    [(1.0, "0"), (2.0, "50%"), (10.0, "90%"), (100.0, "99%"), (1e3, "99.9%"), (1e4, "99.99%")];
const SHARE_MAX: f64 = 2e4;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axis = WithKeyPoints<LogCoord<f64>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// What is drawn of one mode.
struct Panel<'a> {
    heading: &'static str,
    rows: Vec<&'a Measured>,
}

/// Draws the picture.
pub(super) fn draw(size: u64, rows: &[Measured]) -> Result<String> {
    let mut svg = String::new();
    draw_into(&mut svg, size, rows)
        .map_err(|error| Failure::Words(Exit::Io, format!("cannot draw the latencies: {error}")))?;
    Ok(svg)
}

fn draw_into(svg: &mut String, size: u64, rows: &[Measured]) -> Drawn {
    let panels = panels(rows);
    let threads = distinct(rows.iter().map(|row| row.threads));
    let ladder = ladder(rows);
    let legend =
        panels.iter().map(|panel| (panel.rows.len() + panel.floors().len()) as u32).max().unwrap_or(0) * LEGEND_HEIGHT;
    let width = (PANEL_WIDTH * panels.len() as u32).max(WIDTH_MIN);
    let height = TITLE_HEIGHT + HEADING_HEIGHT + legend + PLOT_HEIGHT;
    let root = SVGBackend::with_string(svg, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (top, rest) = root.split_vertically(TITLE_HEIGHT);
    let title = format!("How long an append of {} takes, at {LOAD_PERCENT}% of the highest rate", show_bytes(size));
    write(&top, (LEFT, 14), &title, bold(17))?;
    let meaning = "Lower is better. Dashed: floors, one thread without a log, each just before its line. x floor compares medians.";
    write(&top, (LEFT, 37), meaning, plain(12, INK))?;
    for (index, (area, panel)) in rest.split_evenly((1, panels.len().max(1))).iter().zip(&panels).enumerate() {
        let (top, rest) = area.split_vertically(HEADING_HEIGHT + legend);
        write_legend(&top, panel, &threads)?;
        draw_lines(&rest, panel, &threads, &ladder, index == 0)?;
    }
    root.present()?;
    Ok(())
}

fn panels(rows: &[Measured]) -> Vec<Panel<'_>> {
    let panel = |mode| Panel {
        heading: match mode {
            "sync" => "sync: returns when it is durable",
            "batch" => "batch: synced soon after it returns",
            _ => "none: synced at close",
        },
        rows: rows.iter().filter(|row| row.mode == mode).collect(),
    };
    distinct(rows.iter().map(|row| row.mode)).into_iter().map(panel).collect()
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for each in all {
        if !found.contains(&each) {
            found.push(each);
        }
    }
    found
}

impl Panel<'_> {
    /// The ways of the floors, each with its median, or with the least and the greatest of several.
    fn floors(&self) -> Vec<String> {
        let named = |way: Way| {
            let medians = || {
                let rows = self.rows.iter().filter(move |row| row.floor_way == way);
                rows.map(|row| row.floor.value_at_quantile(0.5))
            };
            let (least, greatest) =
                (show_nanos(medians().min().unwrap_or(0)), show_nanos(medians().max().unwrap_or(0)));
            let range = if least == greatest { least } else { format!("{least} to {greatest}") };
            format!("floor ({}): {range}", way.name())
        };
        distinct(self.rows.iter().map(|row| row.floor_way)).into_iter().map(named).collect()
    }
}

fn colour(row: &Measured, threads: &[u16]) -> RGBColor {
    COLOURS[threads.iter().position(|&other| other == row.threads).unwrap_or(0) % COLOURS.len()]
}

/// The line of a histogram: places on the axis of shares, and nanoseconds. It ends where fewer than one value is left above it.
fn line(nanos: &Histogram<u64>) -> Vec<(f64, f64)> {
    const STEPS: u32 = 172;
    if nanos.is_empty() {
        return Vec::new();
    }
    let end = (nanos.len() as f64).min(SHARE_MAX);
    let shares = (0..=STEPS).map(|step| end.powf(f64::from(step) / f64::from(STEPS)));
    shares.map(|share| (share, nanos.value_at_quantile(1.0 - 1.0 / share).max(1) as f64)).collect()
}

/// 1, 2 and 5 of each power of ten, from below the lowest point of all lines to above the highest.
fn ladder(rows: &[Measured]) -> Vec<f64> {
    let points: Vec<f64> =
        rows.iter().flat_map(|row| [line(&row.nanos), line(&row.floor)]).flatten().map(|(_, nanos)| nanos).collect();
    let low = points.iter().copied().fold(1e12, f64::min);
    let high = points.iter().copied().fold(1.0, f64::max);
    let steps: Vec<f64> = (0..13).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power))).collect();
    let first = steps.iter().rposition(|&step| step <= low).unwrap_or(0);
    let last = steps.iter().position(|&step| step > high).unwrap_or(steps.len() - 1);
    steps[first.min(last - 1)..=last].to_vec()
}

fn draw_lines(area: &Area<'_>, panel: &Panel<'_>, threads: &[u16], ladder: &[f64], is_first: bool) -> Drawn {
    let shares = (1.0..SHARE_MAX).log_scale().with_key_points(SHARES.map(|(share, _)| share).to_vec());
    // Where every step has room for its name, every step has one; elsewhere the powers of ten have.
    let is_named = |step: f64| ladder.len() <= 13 || step.to_string().starts_with('1');
    let (named, unnamed): (Vec<f64>, Vec<f64>) = ladder.iter().partition(|&&step| is_named(step));
    let nanos = (ladder[0]..ladder[ladder.len() - 1]).log_scale().with_key_points(named).with_light_points(unnamed);
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_right(RIGHT)
        .x_label_area_size(48)
        .y_label_area_size(LEFT - MARGIN)
        .build_cartesian_2d(shares, nanos)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(FINE_GRID)
        .axis_style(GRID)
        .label_style(plain(12, INK))
        .x_desc("share of appends that take no longer")
        .y_desc(if is_first { "time of an append" } else { "" })
        .x_label_formatter(&|share| {
            SHARES.iter().find(|(at, _)| at == share).map_or_else(String::new, |(_, name)| (*name).to_owned())
        })
        .y_label_formatter(&|&nanos| show_nanos(nanos.round() as u64).replace(".00", "").replace(".0", ""))
        .draw()?;
    for row in &panel.rows {
        draw_floor(&mut chart, line(&row.floor))?;
    }
    for row in &panel.rows {
        chart.draw_series(LineSeries::new(line(&row.nanos), colour(row, threads).stroke_width(2)))?;
    }
    Ok(())
}

fn draw_floor(chart: &mut Chart<'_, '_>, points: Vec<(f64, f64)>) -> Drawn {
    chart.draw_series(DashedLineSeries::new(points, 6, 4, FLOOR.stroke_width(1)))?;
    Ok(())
}

/// What the lines are, with their medians.
fn write_legend(area: &Area<'_>, panel: &Panel<'_>, threads: &[u16]) -> Drawn {
    write(area, (LEFT, 4), panel.heading, bold(14))?;
    let mut y = HEADING_HEIGHT;
    for row in &panel.rows {
        let noun = if row.threads == 1 { "thread" } else { "threads" };
        let median = row.nanos.value_at_quantile(0.5);
        let ratio = median as f64 / row.floor.value_at_quantile(0.5).max(1) as f64;
        let text = format!("{} {noun}: median {}, {ratio:.2} x floor", row.threads, show_nanos(median));
        write_key(area, y, &[(0, 24)], colour(row, threads).stroke_width(2), &text)?;
        y += LEGEND_HEIGHT;
    }
    for text in panel.floors() {
        write_key(area, y, &[(0, 6), (9, 15), (18, 24)], FLOOR.stroke_width(1), &text)?;
        y += LEGEND_HEIGHT;
    }
    Ok(())
}

fn write_key(area: &Area<'_>, y: u32, strokes: &[(u32, u32)], style: ShapeStyle, text: &str) -> Drawn {
    let at = |x| ((LEFT + x) as i32, (y + LEGEND_HEIGHT / 2) as i32);
    for &(from, to) in strokes {
        area.draw(&PathElement::new(vec![at(from), at(to)], style))?;
    }
    write(area, (LEFT + 32, y + 3), text, plain(12, INK))
}

/// Writes `text`, with its upper left corner at a place.
fn write(area: &Area<'_>, (x, y): (u32, u32), text: &str, style: TextStyle<'static>) -> Drawn {
    area.draw(&Text::new(text.to_owned(), (x as i32, y as i32), style))?;
    Ok(())
}

/// A size in pixels. The library writes sizes into an SVG divided by 1.24.
fn plain(pixels: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", f64::from(pixels) * 1.24).into_font().color(&colour)
}

fn bold(pixels: u32) -> TextStyle<'static> {
    ("sans-serif", f64::from(pixels) * 1.24).into_font().style(FontStyle::Bold).color(&INK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::histogram;

    /// Values from `low` up, one in a hundred ten times and one in a thousand a hundred times as long.
    fn values(low: u64, count: u64) -> Histogram<u64> {
        let mut nanos = histogram().expect("the bounds are valid");
        for index in 0..count {
            let factor = if index % 1000 == 0 {
                100
            } else if index % 100 == 0 {
                10
            } else {
                1
            };
            nanos.saturating_record((low + low * (index * 7919 % 1000) / 1500) * factor);
        }
        nanos
    }

    fn measured(mode: &'static str, threads: u16, low: u64) -> Measured {
        let floor_way = if mode == "sync" { Way::Direct } else { Way::Cached };
        let floor_low = if mode == "sync" { 90_000 } else { 600 };
        let (nanos, floor) = (values(low, 30_000), values(floor_low, 5_000));
        Measured { mode, threads, rate: 1e4, load: 7e3, nanos, floor, floor_way }
    }

    fn everything() -> Vec<Measured> {
        let row =
            |mode, low: u64| [1, 4, 16].map(|threads| measured(mode, threads, low + low / 8 * u64::from(threads)));
        [row("sync", 100_000), row("batch", 900), row("none", 800)].into_iter().flatten().collect()
    }

    fn many_threads() -> Vec<Measured> {
        ["sync", "none"]
            .into_iter()
            .flat_map(|mode| (0..11).map(move |power| measured(mode, 1 << power, 1_000 << power)))
            .collect()
    }

    /// The tags of the picture and the text behind each.
    fn tags(svg: &str) -> impl Iterator<Item = (&str, &str)> {
        svg.split('<').skip(1).filter_map(|tag| tag.split_once('>')).map(|(tag, text)| (tag, text.trim()))
    }

    fn texts(svg: &str) -> Vec<&str> {
        tags(svg).filter(|(tag, _)| tag.starts_with("text ")).map(|(_, text)| text).collect()
    }

    fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
        let (_, value) = tag.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{name} in {tag}"));
        value.split('"').next().expect("a split has a first part")
    }

    fn number(tag: &str, name: &str) -> f64 {
        attribute(tag, name).parse().unwrap_or_else(|_| panic!("{name} in {tag} is a number"))
    }

    #[test]
    fn every_mode_number_of_threads_and_floor_is_named_with_its_median() {
        let rows = everything();
        let svg = draw(256, &rows).expect("it is drawn");
        let texts = texts(&svg);
        let has = |start: &str, end: &str| texts.iter().any(|text| text.starts_with(start) && text.ends_with(end));
        assert!(has("How long an append of 256 B takes", "rate"), "{texts:?}");
        for heading in ["sync: ", "batch: ", "none: "] {
            assert!(has(heading, ""), "{heading} in {texts:?}");
        }
        for row in &rows {
            let median = row.nanos.value_at_quantile(0.5);
            let ratio = median as f64 / row.floor.value_at_quantile(0.5) as f64;
            let noun = if row.threads == 1 { "thread" } else { "threads" };
            let named = format!("{} {noun}: median {}, {ratio:.2} x floor", row.threads, show_nanos(median));
            assert!(texts.contains(&named.as_str()), "{named} in {texts:?}");
            let floor = show_nanos(row.floor.value_at_quantile(0.5));
            let named = format!("floor ({}): {floor}", row.floor_way.name());
            assert!(texts.contains(&named.as_str()), "{named} in {texts:?}");
        }
        for label in ["50%", "99.9%", "1 us", "10 ms", "time of an append", "share of appends that take no longer"] {
            assert!(texts.contains(&label), "{label} in {texts:?}");
        }
    }

    #[test]
    fn floors_that_differ_are_all_named() {
        let mut rows = [1, 2, 4, 8].map(|threads| measured("sync", threads, 100_000));
        rows[1].floor = values(180_000, 5_000);
        rows[2].floor = values(50_000, 5_000);
        rows[3].floor_way = Way::Fdatasync;
        let medians = [0, 1, 2, 3].map(|row: usize| show_nanos(rows[row].floor.value_at_quantile(0.5)));
        let svg = draw(256, &rows).expect("it is drawn");
        let floors: Vec<&str> = texts(&svg).into_iter().filter(|text| text.starts_with("floor")).collect();
        let direct = format!("floor (O_DIRECT|O_DSYNC): {} to {}", medians[2], medians[1]);
        assert_eq!(floors, [direct, format!("floor (write+fdatasync): {}", medians[3])]);
    }

    #[test]
    fn the_same_figures_give_the_same_picture_and_others_another() {
        let picture = |low| draw(256, &[measured("sync", 1, low)]).expect("it is drawn");
        assert_eq!(picture(100_000), picture(100_000));
        assert_ne!(picture(100_000), picture(150_000));
    }

    #[test]
    fn nothing_is_cut_off_at_an_edge() {
        let mut uneven = everything();
        uneven[1].floor = values(900_000_000, 10);
        for (rows, panels) in
            [(vec![measured("batch", 1, 900)], 1), (everything(), 3), (uneven, 3), (many_threads(), 2)]
        {
            let svg = draw(16 << 20, &rows).expect("it is drawn");
            let (picture, _) = tags(&svg).next().expect("there is a picture");
            let (width, height) = (number(picture, "width"), number(picture, "height"));
            let is_inside = |x: f64, y: f64| (0.0..=width).contains(&x) && (0.0..=height).contains(&y);
            for (tag, text) in tags(&svg).filter(|(tag, _)| tag.starts_with("text ")) {
                // What an average letter of a wide font takes.
                let letter = number(tag, "font-size") * if tag.contains("bold") { 0.62 } else { 0.56 };
                let length = text.chars().count() as f64 * letter;
                let (x, y) = (number(tag, "x"), number(tag, "y"));
                let (left, right) = match attribute(tag, "text-anchor") {
                    _ if tag.contains("rotate(270") => (x, x + number(tag, "font-size")),
                    "start" => (x, x + length),
                    "middle" => (x - length / 2.0, x + length / 2.0),
                    _ => (x - length, x),
                };
                assert!(is_inside(left, y) && is_inside(right, y), "{text} from {left} to {right} of {width}");
                let panel_width = width / f64::from(panels);
                let is_in_a_panel = (left / panel_width).floor() == (right / panel_width).floor();
                assert!(is_in_a_panel || y < f64::from(TITLE_HEIGHT), "{text} from {left} to {right}, {panels} panels");
            }
            for (tag, _) in tags(&svg).filter(|(tag, _)| tag.starts_with("polyline ")) {
                for point in attribute(tag, "points").split_whitespace() {
                    let (x, y) = point.split_once(',').expect("a point is a pair");
                    let parse = |number: &str| number.parse::<f64>().expect("a coordinate is a number");
                    assert!(is_inside(parse(x), parse(y)), "{point} in {tag}");
                }
            }
        }
    }

    #[test]
    fn the_axis_of_time_covers_every_line() {
        let single = |value: u64| {
            let mut row = measured("none", 1, 1);
            (row.nanos, row.floor) = (histogram().expect("valid"), histogram().expect("valid"));
            row.nanos.saturating_record(value);
            row.floor.saturating_record(value);
            row
        };
        for rows in [everything(), many_threads(), vec![single(1)], vec![single(1_000)], vec![single(u64::MAX)]] {
            let ladder = ladder(&rows);
            let (low, high) = (ladder[0], ladder[ladder.len() - 1]);
            for (_, nanos) in rows.iter().flat_map(|row| [line(&row.nanos), line(&row.floor)]).flatten() {
                assert!(low <= nanos && nanos < high, "{nanos} from {low} to {high}");
            }
            assert!(draw(1, &rows).expect("it is drawn").ends_with("</svg>\n"));
        }
    }

    #[test]
    fn without_values_there_are_still_axes() {
        let mut row = measured("none", 1, 1);
        (row.nanos, row.floor) = (histogram().expect("valid"), histogram().expect("valid"));
        let svg = draw(1, &[row]).expect("it is drawn");
        assert!(texts(&svg).contains(&"99.9%") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
