//! A plot of one boot: for each job a bar for each backend, as a part of the one that they are compared with.

use std::fmt::Write as _;

use super::Backend;
use super::results::{Measure, Results};

/// Pixels: room for the jobs' names, for a ratio of 1, and the height of a bar.
const LEFT: f64 = 140.0;
const UNIT: f64 = 260.0;
const BAR: f64 = 16.0;
/// Longer bars are cut, and have their number beside them as all have.
const LONGEST: f64 = 2.5;
/// Of Okabe and Ito, which everybody can tell apart.
const COLOURS: [&str; 5] = ["#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00"];

/// The plot, as SVG.
pub fn bars(results: &Results, measure: Measure) -> String {
    let (backends, base) = (results.backends(), results.base());
    let mut body = String::new();
    let mut y = 28.0;
    for (&backend, colour) in backends.iter().zip(COLOURS) {
        let _ = writeln!(body, r#"<rect x="8" y="{y}" width="12" height="12" fill="{colour}"/>"#);
        let _ = writeln!(body, r#"<text x="26" y="{}">{}</text>"#, y + 11.0, backend.name());
        y += BAR;
    }
    y += BAR / 2.0;
    let top = y;
    for job in &results.jobs {
        let _ = writeln!(body, r#"<text x="8" y="{}">{job}</text>"#, y + 12.0);
        for (&backend, colour) in backends.iter().zip(COLOURS) {
            let Some(ratio) = results.ratio(job, backend, measure) else { continue };
            let width = UNIT * ratio.min(LONGEST);
            let _ = writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{}" fill="{colour}"/><text x="{:.1}" y="{}">{ratio:.2}</text>"#,
                BAR - 2.0,
                LEFT + width + 4.0,
                y + 12.0
            );
            y += BAR;
        }
        y += BAR / 2.0;
    }
    let (one, width) = (LEFT + UNIT, LEFT + UNIT * LONGEST + 60.0);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="8" y="18" font-weight="bold">{}; {} = 1</text>
{body}<path d="M{one} {top}V{y}" stroke="#000" stroke-dasharray="3"/>
</svg>
"##,
        measure.title(),
        base.map_or_else(String::new, Backend::name),
    )
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::REPORT;
    use super::*;

    #[test]
    fn a_bar_for_each_backend_of_a_job() {
        let plot = bars(&Results::parse(REPORT).unwrap(), Measure::Instructions);
        assert!(plot.contains("Thousand instructions per I/O; kernel = 1"), "{plot}");
        assert!(plot.contains(r#"width="69.3""#) && plot.contains(">0.27<"), "{plot}");
        assert!(plot.contains(r#"width="260.0""#) && plot.contains(">1.00<"), "{plot}");
    }

    #[test]
    fn a_long_bar_is_cut_but_tells_its_number() {
        let plot = bars(&Results::parse(REPORT).unwrap(), Measure::Speed);
        assert!(plot.contains(r#"width="650.0""#) && plot.contains(">4.00<"), "{plot}");
    }
}
