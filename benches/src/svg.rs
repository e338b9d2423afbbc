//! Plots as SVG: lines or bars over named positions, on a logarithmic axis.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange, LogCoord, WithKeyPoints};
use plotters::coord::types::RangedCoordi32;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, EmptyElement, PathElement, Rectangle, Text};
use plotters::prelude::{Cartesian2d, SVGBackend};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontStyle, IntoFont, RGBColor, TextStyle, WHITE};

use crate::measure::Outcome;

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 360;
const LEFT: u32 = 100;
const MARGIN: u32 = 10;
/// Title and legend, above the axes.
const TOP: u32 = 58;
const BOTTOM: u32 = 46;
/// The room of a position, in units of the axis.
const SLOT: i32 = 1000;
const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const GRID: RGBColor = RGBColor(0xc4, 0xc9, 0xd0);
const FINE_GRID: RGBColor = RGBColor(0xec, 0xee, 0xf1);
/// Floors are grey, and nothing else is.
const FLOORS: [RGBColor; 2] = [RGBColor(0x80, 0x86, 0x90), RGBColor(0xb4, 0xb9, 0xc1)];
/// Told apart by people who see few colours, too.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x0b, 0x6f, 0xb8),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x2a, 0x9d, 0x62),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x6a, 0x4c, 0x93),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes = Cartesian2d<WithKeyPoints<RangedCoordi32>, WithKeyPoints<LogCoord<f64>>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Axes>;

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line with dots for each series.
    Lines,
    /// A group of bars for each position.
    Bars,
}

/// A series of values, one for each position.
#[derive(Clone, Debug)]
pub struct Values {
    /// What it is called in the legend.
    pub name: String,
    /// From left to right.
    pub values: Vec<f64>,
    /// Whether it is what the others are compared with.
    pub is_floor: bool,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Lines or bars.
    pub kind: Kind,
    /// The names of the positions, from left to right.
    pub positions: Vec<String>,
    /// Below these.
    pub axis: String,
    /// What the values are, beside their axis.
    pub measure: String,
    /// What is drawn.
    pub series: Vec<Values>,
    /// How a value is written.
    pub shown: fn(f64) -> String,
}

/// A document with all plots, one below the other.
///
/// # Errors
///
/// None is known: a string takes everything that is drawn into it.
pub fn document(plots: &[Plot]) -> Outcome<String> {
    let mut svg = String::new();
    // A picture without any plot has the room of one.
    let count = plots.len().max(1);
    let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT * u32::try_from(count)?)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, plot) in root.split_evenly((count, 1)).iter().zip(plots) {
        plot.draw(area)?;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

impl Values {
    /// A floor.
    pub fn floor(name: &str, values: Vec<f64>) -> Values {
        Values { name: name.to_owned(), values, is_floor: true }
    }

    /// What is compared with floors.
    pub fn measured(name: &str, values: Vec<f64>) -> Values {
        Values { name: name.to_owned(), values, is_floor: false }
    }
}

impl Plot {
    fn draw(&self, area: &Area<'_>) -> Outcome<()> {
        let (top, rest) = area.split_vertically(TOP);
        write(&top, (LEFT as i32, 12), &self.title, font(15).style(FontStyle::Bold).color(&INK))?;
        self.draw_legend(&top)?;
        let (low, high) = self.powers();
        let steps = |step: f64| (low..high).map(move |power| step * 10_f64.powi(power));
        let places = (0..self.positions.len() as i32).map(middle).collect();
        let values = (10_f64.powi(low)..10_f64.powi(high))
            .log_scale()
            .with_key_points(steps(1.0).chain([10_f64.powi(high)]).collect())
            .with_light_points(steps(2.0).chain(steps(5.0)));
        let mut chart = ChartBuilder::on(&rest)
            .margin(MARGIN)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT - MARGIN)
            .build_cartesian_2d((0..SLOT * self.positions.len().max(1) as i32).with_key_points(places), values)?;
        let name = |place: &i32| self.positions.get((place / SLOT) as usize).cloned().unwrap_or_default();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(FINE_GRID)
            .axis_style(GRID)
            .label_style(font(12).color(&INK))
            .x_desc(&self.axis)
            .y_desc(&self.measure)
            .x_label_formatter(&name)
            .y_label_formatter(&|&value| (self.shown)(value).replace(".00", "").replace(".0", ""))
            .draw()?;
        match self.kind {
            Kind::Lines => self.draw_lines(&mut chart),
            Kind::Bars => self.draw_bars(&mut chart, 10_f64.powi(low)),
        }
    }

    /// The powers of ten between which all values are.
    fn powers(&self) -> (i32, i32) {
        let values = || self.series.iter().flat_map(|each| each.values.iter().copied().filter(|value| *value > 0.0));
        // A decade lower if the smallest value is near a power of ten, so that its bar has a height.
        let low = (values().fold(1e12, f64::min) / 1.5).log10().floor();
        let high = values().fold(1.0, f64::max).log10().ceil();
        (low as i32, high.max(low + 1.0) as i32)
    }

    /// The series, each with its colour.
    fn coloured(&self) -> impl Iterator<Item = (&Values, RGBColor)> {
        let (mut floors, mut colours) = (FLOORS.iter().cycle(), COLOURS.iter().cycle());
        self.series.iter().filter_map(move |each| {
            let colours: &mut dyn Iterator<Item = &RGBColor> = if each.is_floor { &mut floors } else { &mut colours };
            Some((each, *colours.next()?))
        })
    }

    fn draw_legend(&self, area: &Area<'_>) -> Outcome<()> {
        let mut x = LEFT as i32;
        for (series, colour) in self.coloured() {
            match self.kind {
                Kind::Bars => area.draw(&Rectangle::new([(x, 36), (x + 12, 48)], colour.filled()))?,
                Kind::Lines => {
                    let strokes: &[(i32, i32)] = if series.is_floor { &[(0, 5), (8, 13)] } else { &[(0, 13)] };
                    for (from, to) in strokes {
                        area.draw(&PathElement::new([(x + from, 42), (x + to, 42)], colour.stroke_width(2)))?;
                    }
                }
            }
            write(area, (x + 18, 37), &series.name, font(12).color(&INK))?;
            // No font is at hand to measure the name with; six and a half pixels a letter are enough for any of this size.
            x += 36 + 13 * series.name.chars().count() as i32 / 2;
        }
        Ok(())
    }

    fn draw_lines(&self, chart: &mut Chart<'_, '_>) -> Outcome<()> {
        for (series, colour) in self.coloured() {
            let points: Vec<(i32, f64)> =
                series.values.iter().zip(0..).map(|(value, place)| (middle(place), positive(*value))).collect();
            if series.is_floor {
                chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, colour.stroke_width(2)))?;
            } else {
                chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            }
            chart.draw_series(points.iter().zip(&series.values).enumerate().map(|(place, (point, value))| {
                // The label of the highest line goes above its dot, those of the others below, so that close lines stay readable.
                let is_highest =
                    self.series.iter().all(|others| others.values.get(place).is_none_or(|other| other <= value));
                let (shift, side) = if is_highest { (-6, VPos::Bottom) } else { (8, VPos::Top) };
                EmptyElement::at(*point) + Circle::new((0, 0), 4, colour.filled()) + self.label(*value, shift, side)
            }))?;
        }
        Ok(())
    }

    fn draw_bars(&self, chart: &mut Chart<'_, '_>, bottom: f64) -> Outcome<()> {
        let step = SLOT * 86 / 100 / self.series.len().max(1) as i32;
        for ((series, colour), index) in self.coloured().zip(0..) {
            let bars = |place: i32| {
                let left = SLOT * place + SLOT * 7 / 100 + step * index;
                (left, left + step * 9 / 10)
            };
            chart.draw_series(series.values.iter().zip(0..).map(|(value, place)| {
                let (left, right) = bars(place);
                Rectangle::new([(left, bottom), (right, positive(*value).max(bottom))], colour.filled())
            }))?;
            chart.draw_series(series.values.iter().zip(0..).map(|(value, place)| {
                let (left, right) = bars(place);
                let top = ((left + right) / 2, positive(*value).max(bottom));
                EmptyElement::at(top) + self.label(*value, -3, VPos::Bottom)
            }))?;
        }
        Ok(())
    }

    /// A value, so many pixels below its place. The labels of neighbouring bars must not touch.
    fn label(&self, value: f64, shift: i32, side: VPos) -> Text<'static, (i32, i32), String> {
        let pixels = if self.kind == Kind::Bars { 9 } else { 10 };
        Text::new((self.shown)(value), (0, shift), font(pixels).color(&INK).pos(Pos::new(HPos::Center, side)))
    }
}

/// The middle of the room of a position.
fn middle(place: i32) -> i32 {
    SLOT * place + SLOT / 2
}

/// A logarithmic axis has no zero.
fn positive(value: f64) -> f64 {
    value.max(1e-9)
}

/// Writes `text`, with its upper left corner at a place.
fn write(area: &Area<'_>, place: (i32, i32), text: &str, style: TextStyle<'static>) -> Outcome<()> {
    Ok(area.draw(&Text::new(text.to_owned(), place, style))?)
}

/// A size in pixels. The library writes sizes into an SVG divided by 1.24.
fn font(pixels: u32) -> FontDesc<'static> {
    ("sans-serif", f64::from(pixels) * 1.24).into_font()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grouped;

    fn plot(kind: Kind) -> Plot {
        Plot {
            title: "a < b & \"c\"".to_owned(),
            kind,
            positions: vec!["1".to_owned(), "2".to_owned()],
            axis: "threads".to_owned(),
            measure: "appends per second".to_owned(),
            series: vec![
                Values::floor("floor", vec![1.0, 1e6]),
                Values::measured("wal", vec![0.0, 10.0]),
                Values::floor("floor of none", vec![5e3, 2e3]),
            ],
            shown: grouped,
        }
    }

    #[test]
    fn a_document_is_well_formed() {
        let svg = document(&[plot(Kind::Lines), plot(Kind::Bars)]).expect("it is drawn");
        assert_well_formed(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_well_formed(&document(&[]).expect("it is drawn"));
        let nothing = Plot { positions: Vec::new(), series: Vec::new(), ..plot(Kind::Bars) };
        assert_well_formed(&document(&[nothing]).expect("it is drawn"));
    }

    #[test]
    fn a_plot_names_its_axes_its_series_and_every_value() {
        for kind in [Kind::Lines, Kind::Bars] {
            let svg = document(&[plot(kind)]).expect("it is drawn");
            let texts: Vec<&str> = svg.split("<text ").skip(1).map(text).collect();
            for name in
                ["a &lt; b &amp; &quot;c&quot;", "threads", "appends per second", "floor", "wal", "floor of none"]
            {
                assert!(texts.contains(&name), "{name} in {texts:?}");
            }
            for value in [1.0, 1e6, 0.0, 10.0, 5e3, 2e3].map(grouped) {
                assert!(texts.contains(&value.as_str()), "{value} in {texts:?}");
            }
            assert_eq!(svg, document(&[plot(kind)]).expect("it is drawn"), "the same figures give the same picture");
        }
    }

    #[test]
    fn floors_alone_are_grey() {
        let plot = plot(Kind::Bars);
        let colours: Vec<RGBColor> = plot.coloured().map(|(_, colour)| colour).collect();
        assert_eq!(colours, [FLOORS[0], COLOURS[0], FLOORS[1]]);
    }

    #[test]
    fn nothing_is_cut_off_at_an_edge() {
        let svg = document(&[plot(Kind::Lines), plot(Kind::Bars)]).expect("it is drawn");
        for tag in svg.split("<text ").skip(1).filter(|tag| !tag.contains("rotate")) {
            let number = |name: &str| -> f64 {
                let (_, rest) = tag.split_once(&format!("{name}=\"")).expect("it is there");
                rest.split('"').next().expect("it ends").parse().expect("it is a number")
            };
            // What an average letter of a wide font takes.
            let length = text(tag).chars().count() as f64 * number("font-size") * 0.62;
            let left = match tag {
                tag if tag.contains("\"middle\"") => number("x") - length / 2.0,
                tag if tag.contains("\"end\"") => number("x") - length,
                _ => number("x"),
            };
            assert!(left >= 0.0 && left + length <= f64::from(WIDTH), "{} at {left}", text(tag));
            assert!((0.0..=2.0 * f64::from(HEIGHT)).contains(&number("y")), "{}", text(tag));
        }
    }

    /// What stands between a tag and its end.
    fn text(tag: &str) -> &str {
        let (_, rest) = tag.split_once('>').expect("a tag ends");
        rest.split('<').next().expect("a split has a first part").trim()
    }

    /// Every tag is closed in its turn, attributes are quoted, and no bare `<` or `&` is left in the text.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some((before, after)) = rest.split_once('<') {
            assert!(!before.contains('>'), "a bare > in {before}");
            assert_eq!(
                before.matches('&').count(),
                before.matches("&amp;").count()
                    + before.matches("&lt;").count()
                    + before.matches("&gt;").count()
                    + before.matches("&quot;").count(),
                "a bare & in {before}"
            );
            let (tag, tail) = after.split_once('>').expect("a tag ends");
            assert!(tag.matches('"').count().is_multiple_of(2), "an open quote in {tag}");
            let name = tag.split_whitespace().next().expect("a tag has a name");
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            rest = tail;
        }
        assert!(open.is_empty(), "{open:?} are not closed");
    }
}
