//! Plots as SVG, without a library: lines or bars over named positions, on a logarithmic axis.

use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 46.0;
/// Told apart by people who see few colours, too.
const COLOURS: [&str; 6] = ["#8a8f98", "#0b6fb8", "#d1495b", "#2a9d62", "#e0a030", "#6a4c93"];

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line with dots for each series.
    Lines,
    /// A group of bars for each position.
    Bars,
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
    /// Name and values of each series.
    pub series: Vec<(String, Vec<f64>)>,
    /// How a value is written.
    pub shown: fn(f64) -> String,
}

/// A document with all plots, one below the other.
pub fn document(plots: &[Plot]) -> String {
    let height = HEIGHT * plots.len() as f64;
    let mut svg = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    line(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">"
        ),
    );
    line(&mut svg, format_args!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"));
    for (index, plot) in plots.iter().enumerate() {
        line(&mut svg, format_args!("<g transform=\"translate(0 {})\">", HEIGHT * index as f64));
        plot.draw(&mut svg);
        line(&mut svg, format_args!("</g>"));
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes everything");
    svg.push('\n');
}

fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, content: &str) {
    let content = escaped(content);
    line(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#22262b\" {attributes}>{content}</text>"));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A logarithmic axis between powers of ten.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(plot: &Plot) -> Scale {
        let values = || plot.series.iter().flat_map(|(_, values)| values.iter().copied().filter(|value| *value > 0.0));
        // A decade lower if the smallest value is near a power of ten, so that its bar has a height.
        let low = (values().fold(f64::MAX, f64::min).min(1e12) / 1.5).log10().floor();
        let high = values().fold(1.0, f64::max).log10().ceil();
        Scale { low, high: high.max(low + 1.0) }
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).log10() - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }
}

impl Plot {
    fn draw(&self, svg: &mut String) {
        let scale = Scale::of(self);
        text(svg, (LEFT, 22.0), "font-size=\"15\" font-weight=\"bold\"", &self.title);
        self.draw_legend(svg);
        self.draw_grid(svg, &scale);
        let slot = (WIDTH - LEFT - RIGHT) / self.positions.len().max(1) as f64;
        for (index, name) in self.positions.iter().enumerate() {
            let x = LEFT + slot * (index as f64 + 0.5);
            text(svg, (x, HEIGHT - BOTTOM + 18.0), "text-anchor=\"middle\"", name);
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        text(svg, (middle, HEIGHT - 8.0), "text-anchor=\"middle\"", &self.axis);
        match self.kind {
            Kind::Lines => self.draw_lines(svg, &scale, slot),
            Kind::Bars => self.draw_bars(svg, &scale, slot),
        }
    }

    fn draw_legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for ((name, _), colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            line(svg, format_args!("<rect x=\"{x:.1}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"));
            text(svg, (x + 17.0, 44.0), "", name);
            // No font is at hand to measure the name with; seven pixels a letter are enough for any of this size.
            x += 36.0 + 7.0 * name.chars().count() as f64;
        }
    }

    fn draw_grid(&self, svg: &mut String, scale: &Scale) {
        for power in scale.low as i32..=scale.high as i32 {
            for step in [1.0, 2.0, 5.0] {
                let value = step * 10f64.powi(power);
                if value > 10f64.powf(scale.high) {
                    break;
                }
                let (y, right) = (scale.y(value), WIDTH - RIGHT);
                let colour = if step == 1.0 { "#c4c9d0" } else { "#eceef1" };
                line(
                    svg,
                    format_args!(
                        "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>"
                    ),
                );
                if step == 1.0 {
                    text(svg, (LEFT - 8.0, y + 4.0), "text-anchor=\"end\"", &(self.shown)(value));
                }
            }
        }
    }

    fn draw_lines(&self, svg: &mut String, scale: &Scale, slot: f64) {
        for (index, (_, values)) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<(f64, f64)> = values
                .iter()
                .enumerate()
                .map(|(position, value)| (LEFT + slot * (position as f64 + 0.5), scale.y(*value)))
                .collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            line(
                svg,
                format_args!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                    path.join(" ")
                ),
            );
            for (position, ((x, y), value)) in points.iter().zip(values).enumerate() {
                // The label of the highest line goes above its dot, those of the others below, so that close lines stay readable.
                let is_highest =
                    self.series.iter().all(|(_, others)| others.get(position).is_none_or(|it| it <= value));
                let shift = if is_highest { -9.0 } else { 18.0 };
                line(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
                text(svg, (*x, y + shift), "text-anchor=\"middle\" font-size=\"10\"", &(self.shown)(*value));
            }
        }
    }

    fn draw_bars(&self, svg: &mut String, scale: &Scale, slot: f64) {
        let width = slot * 0.86 / self.series.len().max(1) as f64;
        for (index, (_, values)) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            for (position, value) in values.iter().enumerate() {
                let x = LEFT + slot * (position as f64 + 0.07) + width * index as f64;
                let y = scale.y(*value);
                let (inner, height) = (width * 0.9, HEIGHT - BOTTOM - y);
                line(
                    svg,
                    format_args!(
                        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{inner:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
                    ),
                );
                let place = (x + inner / 2.0, y - 4.0);
                text(svg, place, "text-anchor=\"middle\" font-size=\"9\"", &(self.shown)(*value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grouped;

    #[test]
    fn a_document_is_well_formed() {
        let plot = |kind| Plot {
            title: "a < b & \"c\"".to_owned(),
            kind,
            positions: vec!["1".to_owned(), "2".to_owned()],
            axis: "threads".to_owned(),
            series: vec![("floor".to_owned(), vec![1.0, 1e6]), ("wal".to_owned(), vec![0.0, 10.0])],
            shown: grouped,
        };
        let svg = document(&[plot(Kind::Lines), plot(Kind::Bars)]);
        assert_well_formed(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_well_formed(&document(&[]));
    }

    /// Every tag is closed in its turn, attributes are quoted, and no bare `<` or `&` is left in the text.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg.split_once("?>").expect("there is a declaration").1;
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
