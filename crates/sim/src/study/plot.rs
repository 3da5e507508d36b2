//! A picture of the cases: cards in use, work that waits, and waits by class, as SVG.

use std::fmt::Write as _;

use super::Case;
use super::report::Figures;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
/// From one panel's top to the next one's.
const STEP: f64 = HEIGHT + 60.0;
/// Points of a line; a picture shows no more.
const POINTS: usize = 600;
/// The most queues with a panel of their own, the first ones.
const QUEUES_MAX: usize = 12;
/// One for each case, told apart by the colour-blind as well (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// The picture. Cases beyond the seventh share colours.
pub fn svg(cases: &[Case]) -> String {
    let figures: Vec<Figures> = cases.iter().map(Case::figures).collect();
    let end = cases.iter().filter_map(|case| case.moments.last()).map(|moment| moment.now).max().unwrap_or(1).max(1);
    let mut picture = String::new();
    let queues = cases.first().map_or(0, |case| case.queues.len()).min(QUEUES_MAX);
    let panels = 3.0 + queues as f64;
    let height = TOP + panels * STEP + 20.0 * cases.len() as f64;
    let _ = writeln!(
        picture,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0} {height:.0}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>"##,
        WIDTH + LEFT + 20.0
    );
    let used = |case: &Case, place: usize| case.moments[place].cards as f64 / 10.0 / f64::from(case.cards.max(1));
    lines(&mut picture, TOP, "cards in use, %", cases, end, 100.0, used);
    let most = cases.iter().flat_map(|case| case.moments.iter().map(|moment| moment.waiting)).max().unwrap_or(1).max(1) as f64;
    lines(&mut picture, TOP + STEP, "work that waits", cases, end, most, |case, place| case.moments[place].waiting as f64);
    bars(&mut picture, TOP + 2.0 * STEP, &figures);
    let cards = cases.iter().map(|case| f64::from(case.cards)).fold(1.0, f64::max);
    for queue in 0..queues {
        let title = format!("cards in use by queue {}", escaped(&cases[0].queues[queue].name));
        let top = TOP + (3.0 + queue as f64) * STEP;
        lines(&mut picture, top, &title, cases, end, cards, |case, place| f64::from(case.queues[queue].cards[place].0));
    }
    for (place, case) in cases.iter().enumerate() {
        let y = TOP + panels * STEP - 20.0 + 20.0 * place as f64;
        let _ = writeln!(
            picture,
            r#"<rect x="{LEFT}" y="{:.1}" width="12" height="12" fill="{}"/><text x="{}" y="{:.1}">{}</text>"#,
            y - 10.0,
            COLOURS[place % COLOURS.len()],
            LEFT + 20.0,
            y,
            escaped(&case.name)
        );
    }
    picture.push_str("</svg>\n");
    picture
}

fn frame(picture: &mut String, top: f64, title: &str, most: &str) {
    let bottom = top + HEIGHT;
    let _ = writeln!(
        picture,
        r##"<text x="{LEFT}" y="{:.1}" font-weight="bold">{title}</text><path d="M{LEFT} {top}V{bottom}H{}" fill="none" stroke="#888888"/><text x="{:.1}" y="{:.1}" text-anchor="end">{most}</text><text x="{:.1}" y="{bottom}" text-anchor="end">0</text>"##,
        top - 8.0,
        LEFT + WIDTH,
        LEFT - 6.0,
        top + 10.0,
        LEFT - 6.0
    );
}

/// Means over equal spans of time.
fn lines(picture: &mut String, top: f64, title: &str, cases: &[Case], end: i64, most: f64, value: impl Fn(&Case, usize) -> f64) {
    frame(picture, top, title, &format!("{most:.0}"));
    let _ = writeln!(
        picture,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{:.0} h</text>"#,
        LEFT + WIDTH,
        top + HEIGHT + 16.0,
        end as f64 / 3_600_000.0
    );
    for (place, case) in cases.iter().enumerate() {
        let span = end as f64 / POINTS as f64;
        let mut sums = vec![0.0; POINTS];
        for (moment, pair) in case.moments.windows(2).enumerate() {
            let (mut from, to) = (pair[0].now as f64, pair[1].now as f64);
            while from < to {
                let bin = ((from / span) as usize).min(POINTS - 1);
                let next = if bin + 1 == POINTS { to } else { to.min((bin + 1) as f64 * span) };
                sums[bin] += value(case, moment) * (next - from).max(0.0);
                // Rounding must not keep a step from going on.
                from = if next > from { next } else { to };
            }
        }
        let mut path = String::new();
        for (bin, sum) in sums.iter().enumerate() {
            let (x, y) = (LEFT + WIDTH * bin as f64 / POINTS as f64, top + HEIGHT * (1.0 - (sum / span / most).clamp(0.0, 1.0)));
            let _ = write!(path, "{}{x:.1} {y:.1}", if bin == 0 { "M" } else { "L" });
        }
        let _ = writeln!(picture, r#"<path d="{path}" fill="none" stroke="{}" stroke-width="1.5"/>"#, COLOURS[place % COLOURS.len()]);
    }
}

/// p99 waits by class, on a scale of their logarithms.
fn bars(picture: &mut String, top: f64, figures: &[Figures]) {
    let scale = |seconds: f64| (seconds.max(0.0) + 1.0).log10();
    let most = figures.iter().flat_map(|one| one.classes.iter().map(|class| scale(class.p99_s))).fold(1.0, f64::max);
    frame(picture, top, "p99 wait by class of work (logarithmic)", &format!("{:.0} s", 10_f64.powf(most)));
    let names: Vec<&str> = figures.first().map_or_else(Vec::new, |one| one.classes.iter().map(|class| class.name).collect());
    let room = WIDTH / names.len().max(1) as f64;
    let width = room * 0.8 / figures.len().max(1) as f64;
    for (column, name) in names.iter().enumerate() {
        let x = LEFT + room * (column as f64 + 0.1);
        let _ = writeln!(picture, r#"<text x="{x:.1}" y="{:.1}">{name}</text>"#, top + HEIGHT + 16.0);
        for (place, one) in figures.iter().enumerate() {
            let Some(class) = one.classes.iter().find(|class| class.name == *name) else { continue };
            let height = HEIGHT * scale(class.p99_s) / most;
            let _ = writeln!(
                picture,
                r#"<rect x="{:.1}" y="{:.1}" width="{width:.1}" height="{height:.1}" fill="{}"><title>{:.0} s</title></rect>"#,
                x + width * place as f64,
                top + HEIGHT - height,
                COLOURS[place % COLOURS.len()],
                class.p99_s
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
