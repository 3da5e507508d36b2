//! The values as small plots, one for each metric, both axes logarithmic.

use super::values::Values;

/// Servers' colours (Okabe and Ito's, which the colour-blind can tell apart), and the shapes of their
/// points, in the order in which they first appear.
const STYLES: [(&str, Shape); 3] = [("#0072b2", Shape::Circle), ("#009e73", Shape::Square), ("#d55e00", Shape::Triangle)];
const COLUMNS: usize = 2;
/// Of one plot with its title and the numbers at its axes, in pixels.
const CELL: (f64, f64) = (460.0, 270.0);
/// Of the lines inside it: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (62.0, 40.0, 20.0, 40.0);
const LEGEND_HEIGHT: f64 = 44.0;
/// Decades that an axis shows at least, so that a flat line looks flat.
const DECADES_MIN: i32 = 2;

#[derive(Clone, Copy)]
enum Shape {
    Circle,
    Square,
    Triangle,
}

/// An SVG document.
pub(super) fn draw(values: &Values) -> String {
    let metrics = distinct(values.0.iter().map(|measured| (measured.value.metric.as_str(), measured.value.unit.as_str())));
    let servers = distinct(values.0.iter().map(|measured| measured.server.as_str()));
    let rows = metrics.len().div_ceil(COLUMNS);
    let (width, height) = (CELL.0 * COLUMNS as f64, LEGEND_HEIGHT + CELL.1 * rows as f64);
    let mut svg = vec![format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n\
         <title>How the resource API's figures grow with the number of objects</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )];
    for (index, server) in servers.iter().enumerate() {
        let (x, y) = (MARGIN.0 + 230.0 * index as f64, LEGEND_HEIGHT / 2.0);
        svg.push(format!("<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"2\"/>\n", x + 28.0, colour(index)));
        svg.push(point(index, x + 14.0, y));
        svg.push(format!("<text x=\"{}\" y=\"{}\" font-size=\"13\">{}</text>\n", x + 36.0, y + 4.5, escaped(server)));
    }
    let objects = Axis::over(values.0.iter().map(|measured| measured.objects as f64));
    for (index, (metric, unit)) in metrics.iter().enumerate() {
        let origin = ((index % COLUMNS) as f64 * CELL.0, LEGEND_HEIGHT + (index / COLUMNS) as f64 * CELL.1);
        let courses: Vec<Vec<(f64, f64)>> = servers
            .iter()
            .map(|server| {
                let of_it = values.0.iter().filter(|it| it.server == *server && it.value.metric == *metric && it.value.number > 0.0);
                of_it.map(|it| (it.objects as f64, it.value.number)).collect()
            })
            .collect();
        svg.push(panel(origin, &format!("{metric} ({unit})"), objects, &courses));
    }
    svg.push("</svg>\n".to_owned());
    svg.concat()
}

/// One plot.
fn panel(origin: (f64, f64), title: &str, across: Axis, courses: &[Vec<(f64, f64)>]) -> String {
    let up = Axis::over(courses.iter().flatten().map(|(_, value)| *value));
    let (left, right) = (origin.0 + MARGIN.0, origin.0 + CELL.0 - MARGIN.2);
    let (top, bottom) = (origin.1 + MARGIN.1, origin.1 + CELL.1 - MARGIN.3);
    let x = |value: f64| left + across.share(value) * (right - left);
    let y = |value: f64| bottom - up.share(value) * (bottom - top);
    let mut svg = vec![format!(
        "<text x=\"{left}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{}</text>\n<g stroke=\"#dddddd\">\n",
        top - 12.0,
        escaped(title)
    )];
    for tick in up.ticks() {
        svg.push(format!("<line x1=\"{left}\" y1=\"{0:.1}\" x2=\"{right}\" y2=\"{0:.1}\"/>\n", y(tick)));
    }
    for tick in across.ticks() {
        svg.push(format!("<line x1=\"{0:.1}\" y1=\"{top}\" x2=\"{0:.1}\" y2=\"{bottom}\"/>\n", x(tick)));
    }
    svg.push("</g>\n".to_owned());
    for tick in up.ticks() {
        svg.push(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n", left - 7.0, y(tick) + 4.0, number(tick)));
    }
    for tick in across.ticks() {
        svg.push(format!("<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", x(tick), bottom + 17.0, number(tick)));
    }
    svg.push(format!("<text x=\"{right}\" y=\"{}\" text-anchor=\"end\" fill=\"#666666\">objects</text>\n", bottom + 33.0));
    for (index, course) in courses.iter().enumerate().filter(|(_, course)| !course.is_empty()) {
        let points: Vec<String> = course.iter().map(|(objects, value)| format!("{:.1},{:.1}", x(*objects), y(*value))).collect();
        svg.push(format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", points.join(" "), colour(index)));
        for (objects, value) in course {
            svg.push(point(index, x(*objects), y(*value)));
        }
    }
    svg.concat()
}

/// A logarithmic axis over whole decades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    from: i32,
    to: i32,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.filter(|value| *value > 0.0).fold((f64::MAX, f64::MIN), |(a, b), value| (a.min(value), b.max(value)));
        if least > most {
            return Self { from: 0, to: DECADES_MIN };
        }
        let (mut from, mut to) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        // What is nearer to an end gets its room at that end.
        while to - from < DECADES_MIN {
            if most.log10() - f64::from(from) > f64::from(to) - least.log10() { to += 1 } else { from -= 1 }
        }
        Self { from, to }
    }

    /// Where on the axis a value is, from 0 to 1.
    fn share(self, value: f64) -> f64 {
        (value.log10() - f64::from(self.from)) / f64::from(self.to - self.from)
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        (self.from..=self.to).map(|exponent| 10_f64.powi(exponent))
    }
}

fn colour(server: usize) -> &'static str {
    STYLES[server % STYLES.len()].0
}

fn point(server: usize, x: f64, y: f64) -> String {
    let (colour, shape) = STYLES[server % STYLES.len()];
    match shape {
        Shape::Circle => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>\n"),
        Shape::Square => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"{colour}\"/>\n", x - 4.0, y - 4.0),
        Shape::Triangle => {
            format!("<path d=\"M{x:.1} {:.1}L{:.1} {:.1}H{:.1}Z\" fill=\"{colour}\"/>\n", y - 5.5, x + 5.0, y + 4.0, x - 5.0)
        }
    }
}

/// A power of ten as people say it.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value if value >= 1.0 => format!("{value:.0}"),
        value => format!("{value}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Each once, in the order in which they first appear.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

#[cfg(test)]
mod tests {
    use super::super::values::Value;
    use super::*;

    #[test]
    fn an_axis_holds_its_values_and_whole_decades() {
        assert_eq!(Axis::over([1e3, 1e6].into_iter()), Axis { from: 3, to: 6 });
        assert_eq!(Axis::over([0.3, 4_000.0].into_iter()), Axis { from: -1, to: 4 });
        assert_eq!(Axis::over([0.0].into_iter()), Axis { from: 0, to: DECADES_MIN });
        for value in [1.0, 1.5, 9.0, 10.0, 12.0] {
            let axis = Axis::over([value].into_iter());
            assert!(axis.to - axis.from >= DECADES_MIN && (0.0..=1.0).contains(&axis.share(value)), "{axis:?} of {value}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.1, 1.0, 100.0, 1e3, 1e5, 1e6].map(number), ["0.1", "1", "100", "1 k", "100 k", "1 M"]);
    }

    #[test]
    fn every_metric_has_a_plot_and_every_server_a_line() {
        let mut values = Values::default();
        for server in ["a", "b & c"] {
            for objects in [1_000, 1_000_000] {
                values.add(server, objects, vec![Value::of("gets", "1/s", 30_000.0), Value::of("list", "ms", 3.0)]);
            }
        }
        let svg = draw(&values);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains(">gets (1/s)</text>") && svg.contains(">b &amp; c</text>"));
    }
}
