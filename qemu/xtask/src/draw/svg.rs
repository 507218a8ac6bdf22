//! A picture as an SVG file: no scripts, no fonts of its own, light and dark by the reader's preference.
//!
//! ```text
//!   title, legend
//!   window     [ part | part | part ]                      not to scale, addresses below
//!   chapter             4 KiB  64 KiB  1 MiB ...           axis
//!     row   address  g[####################......]//[g]    slot, cut, guard
//!   arena      [ part |        part           ]            to scale, amounts below
//! ```

use core::fmt::{self, Write};

use super::picture::{Chapter, Part, Picture, Row, Shade, Strip};
use super::scale::{float, place, ticks};
use crate::units::bytes;
use crate::xml::Escaped;

const WIDTH: f64 = 1000.0;
const MARGIN: f64 = 28.0;
/// Where bars begin and end, with a guard's place in front and behind.
const BAR: (f64, f64) = (222.0, 770.0);
const GUARD_BEFORE: f64 = 16.0;
const CUT: f64 = 12.0;
const GUARD_AFTER: f64 = 40.0;
const ROW: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;
const STRIP_HEIGHT: f64 = 30.0;

/// Colours by class, light and dark.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-size:18px;font-weight:600}.head{font-size:13px;font-weight:600}
.mono{font-family:ui-monospace,monospace;font-size:11px}.dim{fill:#656d76}.end{text-anchor:end}
.middle{text-anchor:middle}.on{fill:#fff}
.paper{fill:#fff}.edge{fill:none;stroke:#8c959f}.tick{stroke:#d0d7de}
.accessible{fill:#2f6fd0}.code{fill:#8250df}.kept{fill:#d9a520}.reserved,.free{fill:#e7ebef}
.guard{fill:url(#hatch)}.hatch{stroke:#cf4a50;stroke-width:2}.tables{fill:#1b8a72}.records{fill:#6e7781}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.dim{fill:#9198a1}.paper{fill:#12161c}.edge{stroke:#59626d}.tick{stroke:#2d343d}
.on{fill:#fff}.accessible{fill:#3b7ddd}.code{fill:#8f66e0}.kept{fill:#b98a12}.reserved,.free{fill:#262d36}
.hatch{stroke:#b8474d}.tables{fill:#1f8f78}.records{fill:#626b76}}
";

/// The whole file.
pub(super) fn write(picture: &Picture) -> String {
    let mut page = Page { body: String::new(), y: MARGIN + 14.0 };
    page.text(MARGIN, "title", &picture.title);
    page.y += 18.0;
    page.legend();
    page.y += 34.0;
    page.strip(&picture.window, |_| 1.0);
    for chapter in &picture.chapters {
        page.chapter(chapter);
    }
    page.strip(&picture.arena, |part| float(part.bytes));
    let height = page.y;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><line class=\"hatch\" x1=\"1\" x2=\"1\" y2=\"6\"/></pattern></defs>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n",
        title = Escaped(&picture.title),
        body = page.body,
    )
}

struct Page {
    body: String,
    /// Where the next thing goes; for text its base line.
    y: f64,
}

impl Page {
    fn legend(&mut self) {
        self.y += 10.0;
        let mut x = MARGIN;
        for shade in Shade::OF_ROWS {
            self.bar(x, 22.0, self.y - 10.0, 12.0, shade);
            self.text(x + 28.0, "dim", shade.name());
            x += 28.0 + 7.0 * float(shade.name().len() as u64) + 22.0;
        }
    }

    /// Parts side by side, each wide enough to be seen, and a line about each.
    fn strip(&mut self, strip: &Strip, weight: impl Fn(&Part) -> f64) {
        self.text(MARGIN, "head", &strip.title);
        self.y += 10.0;
        let widths = share(WIDTH - 2.0 * MARGIN, strip.parts.iter().map(weight));
        let mut x = MARGIN;
        let top = self.y;
        for (part, width) in strip.parts.iter().zip(&widths) {
            self.bar(x, *width, top, STRIP_HEIGHT, part.shade);
            if part.start.is_some() {
                self.y = top + STRIP_HEIGHT / 2.0 + 4.0;
                let class = if part.shade == Shade::Reserved { "dim middle" } else { "on middle" };
                self.text(x + width / 2.0, class, &part.name);
            }
            x += width;
        }
        self.y = top;
        self.rect("edge", MARGIN, top, WIDTH - 2.0 * MARGIN, STRIP_HEIGHT);
        self.y += STRIP_HEIGHT + 18.0;
        for part in &strip.parts {
            self.bar(MARGIN, 14.0, self.y - 10.0, 12.0, part.shade);
            let mut x = MARGIN + 24.0;
            if let Some(start) = part.start {
                self.text(x, "mono dim", &format!("{start:#018x}"));
                x += 140.0;
            }
            self.text(x + 62.0, "end", &bytes(part.bytes));
            self.text(x + 76.0, "dim", &part.name);
            self.y += 18.0;
        }
        self.y += 18.0;
    }

    fn chapter(&mut self, chapter: &Chapter) {
        self.text(MARGIN, "head", &chapter.title);
        if !chapter.rows.is_empty() {
            self.axis(chapter);
        }
        for row in &chapter.rows {
            self.row(row, chapter.end);
        }
        if let Some(rest) = &chapter.rest {
            self.y += 18.0;
            self.text(BAR.0, "dim", rest);
        }
        self.y += 36.0;
    }

    /// Sizes above the bars, and a line through all of them.
    fn axis(&mut self, chapter: &Chapter) {
        self.y += 22.0;
        let bottom = self.y + 4.0 + ROW * float(chapter.rows.len() as u64);
        for (tick, name) in ticks(chapter.end) {
            let x = x_of(tick, chapter.end);
            self.text(x, "mono dim middle", &name);
            let top = self.y + 4.0;
            self.add(format_args!(
                "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
            ));
        }
        self.y += 6.0;
    }

    fn row(&mut self, row: &Row, end: u64) {
        let top = self.y + (ROW - BAR_HEIGHT) / 2.0;
        self.y += ROW - 6.5;
        self.text(MARGIN + 20.0, "end", &row.name);
        self.text(MARGIN + 32.0, "mono dim", &format!("{:#018x}", row.address));
        if row.guarded_before {
            self.bar(BAR.0 - GUARD_BEFORE, GUARD_BEFORE, top, BAR_HEIGHT, Shade::Guard);
        }
        let mut from = BAR.0;
        for (shade, size) in &row.spans {
            // Whatever there is shows.
            let least = if *size > 0 && *shade != Shade::Reserved { from + 3.0 } else { from };
            let to = x_of(*size, end).max(least);
            self.bar(from, to - from, top, BAR_HEIGHT, *shade);
            from = to;
        }
        self.rect("edge", BAR.0, top, from - BAR.0, BAR_HEIGHT);
        self.cut(from, top);
        self.bar(from + CUT, GUARD_AFTER, top, BAR_HEIGHT, Shade::Guard);
        self.text(BAR.1 + CUT + GUARD_AFTER + 14.0, "", &row.note);
        self.y += 6.5;
    }

    /// Two strokes where an axis ends and another part follows.
    fn cut(&mut self, x: f64, top: f64) {
        for at in [x + 3.0, x + 7.0] {
            let (right, low, high) = (at + 3.0, top + BAR_HEIGHT + 1.0, top - 1.0);
            self.add(format_args!(
                "<line class=\"edge\" x1=\"{at:.1}\" y1=\"{low:.1}\" x2=\"{right:.1}\" y2=\"{high:.1}\"/>"
            ));
        }
    }

    fn bar(&mut self, x: f64, width: f64, y: f64, height: f64, shade: Shade) {
        if width > 0.0 {
            self.rect(class(shade), x, y, width, height);
        }
    }

    fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// Text on the current line.
    fn text(&mut self, x: f64, class: &str, text: &str) {
        let (y, text) = (self.y, Escaped(text));
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.add(format_args!("<text{class} x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }

    fn add(&mut self, element: fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a String takes everything");
    }
}

fn class(shade: Shade) -> &'static str {
    match shade {
        Shade::Accessible => "accessible",
        Shade::Code => "code",
        Shade::Kept => "kept",
        Shade::Reserved => "reserved",
        Shade::Guard => "guard",
        Shade::Tables => "tables",
        Shade::Records => "records",
        Shade::Free => "free",
    }
}

fn x_of(size: u64, end: u64) -> f64 {
    BAR.0 + (BAR.1 - BAR.0) * place(size, end)
}

/// Shares a width out by weight, at least 3 each; the heaviest pays for that.
fn share(width: f64, weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut widths: Vec<f64> = weights.iter().map(|weight| (width * weight / total).max(3.0)).collect();
    let excess = widths.iter().sum::<f64>() - width;
    if let Some(widest) = widths.iter_mut().max_by(|a, b| a.total_cmp(b)) {
        *widest -= excess;
    }
    widths
}
