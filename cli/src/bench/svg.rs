//! The latencies as a picture: one line for each mode and number of threads, the floor dashed.

use super::Measured;
use crate::size::{show_bytes, show_nanos};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 310.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Colours that people who see few colours tell apart.
const COLOURS: [&str; 9] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f3c8d", "#a5aa99"];
/// The quantiles on the axis. From 90 % on each has ten times fewer values above it than the one before.
const QUANTILES: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%")];

/// Draws the picture.
pub(super) fn draw(size: u64, rows: &[Measured]) -> String {
    let values = || {
        rows.iter()
            .flat_map(|row| [row.nanos.min(), row.nanos.max(), row.floor.min(), row.floor.value_at_quantile(0.9999)])
    };
    let scale = Scale { low: values().min().unwrap_or(1).max(1), high: values().max().unwrap_or(10).max(10) };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">How long an append of {} takes, at {} of the highest rate (lower is better; medians at the right)</text>\n",
        show_bytes(size),
        "70%",
    );
    axes(&mut svg, &scale);
    for (index, row) in rows.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        line(&mut svg, &scale, colour, "", &|quantile| row.nanos.value_at_quantile(quantile));
        let y = TOP + 14.0 + 18.0 * index as f64;
        let threads = if row.threads == 1 { "thread" } else { "threads" };
        legend(
            &mut svg,
            y,
            colour,
            "",
            &format!("{}, {} {threads}: {}", row.mode, row.threads, show_nanos(row.nanos.value_at_quantile(0.5))),
        );
    }
    let mut floors: Vec<&Measured> = Vec::new();
    for row in rows {
        if floors.iter().all(|other| other.mode != row.mode) {
            floors.push(row);
        }
    }
    for (index, row) in floors.iter().enumerate() {
        let colour = COLOURS[rows.iter().position(|other| other.mode == row.mode).unwrap_or(0) % COLOURS.len()];
        line(&mut svg, &scale, colour, "4 4", &|quantile| row.floor.value_at_quantile(quantile));
        let y = TOP + 24.0 + 18.0 * (rows.len() + index) as f64;
        legend(
            &mut svg,
            y,
            colour,
            "4 4",
            &format!(
                "floor of {} ({}): {}",
                row.mode,
                row.floor_way.name(),
                show_nanos(row.floor.value_at_quantile(0.5))
            ),
        );
    }
    svg + "</svg>\n"
}

struct Scale {
    low: u64,
    high: u64,
}

impl Scale {
    fn x(quantile: f64) -> f64 {
        // 0 stands at the left, and every further nine is as far again.
        let nines = -(1.0 - quantile).max(1e-9).log10();
        LEFT + (WIDTH - LEFT - RIGHT) * (nines / 4.3).min(1.0)
    }

    fn y(&self, nanos: u64) -> f64 {
        let log = |value: u64| (value.max(1) as f64).log10();
        let share = (log(nanos) - log(self.low)) / (log(self.high) - log(self.low)).max(0.1);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (quantile, name) in QUANTILES {
        let x = Scale::x(quantile);
        *svg += &format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n",
            bottom + 18.0
        );
    }
    let mut decade = 1_u64;
    while decade <= scale.high {
        if decade >= scale.low {
            let y = scale.y(decade);
            *svg += &format!(
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                y + 4.0,
                show_nanos(decade).replace(".00", "").replace(".0", "")
            );
        }
        decade *= 10;
    }
    *svg += &format!(
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">share of appends that take no longer</text>\n",
        (LEFT + right) / 2.0,
        HEIGHT - 16.0
    );
}

fn line(svg: &mut String, scale: &Scale, colour: &str, dashes: &str, value: &dyn Fn(f64) -> u64) {
    let points: Vec<String> = (0..=172)
        .map(|step| {
            let quantile = 1.0 - 10_f64.powf(-f64::from(step) * 4.3 / 172.0);
            format!("{:.1},{:.1}", Scale::x(quantile), scale.y(value(quantile)))
        })
        .collect();
    *svg += &format!(
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-dasharray=\"{dashes}\" points=\"{}\"/>\n",
        points.join(" ")
    );
}

fn legend(svg: &mut String, y: f64, colour: &str, dashes: &str, text: &str) {
    let x = WIDTH - RIGHT + 12.0;
    *svg += &format!(
        "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n\
         <text x=\"{}\" y=\"{}\">{text}</text>\n",
        x + 22.0,
        x + 28.0,
        y + 4.0
    );
}
