//! The file: no scripts, no fonts of its own, light and dark by the reader's preference.

use core::fmt::{self, Write};
use core::iter;

use super::axis::{Axis, float};
use super::{Line, Plot};
use crate::units::thousands;
use crate::xml::Escaped;

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 24.0;
/// Where the horizontal axis begins and ends: names of ticks stand before and, half of the last, behind.
const LEFT: f64 = 104.0;
const RIGHT: f64 = WIDTH - 44.0;
/// From the top of the vertical axis to its foot.
const HEIGHT: f64 = 260.0;

/// Colours by class, light and dark.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}.dim{fill:#59636e}.end{text-anchor:end}.middle{text-anchor:middle}
.paper{fill:#fff}.axis{stroke:#59636e}.grid{stroke:#dfe4ea}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.dashes1{stroke-dasharray:7 4}.dashes2{stroke-dasharray:2 4}
.line.colour0{stroke:#1f5fbf}.mark.colour0{fill:#1f5fbf}.line.colour1{stroke:#b3470f}.mark.colour1{fill:#b3470f}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.dim{fill:#9198a1}.paper{fill:#12161c}.axis{stroke:#9198a1}.grid{stroke:#2d343d}
.line.colour0{stroke:#6ea8fe}.mark.colour0{fill:#6ea8fe}.line.colour1{stroke:#f0944d}.mark.colour1{fill:#f0944d}
}
";

/// The whole file.
pub(crate) fn write(plot: &Plot) -> String {
    let points = plot.lines.iter().flat_map(|line| line.points.iter().copied());
    let x = Axis::horizontal(plot.scale, points.clone().map(|(x, _)| x));
    let y = Axis::vertical(points.map(|(_, y)| y));
    let mut page = Page { plot, x, y, top: MARGIN + 14.0, body: String::new() };
    page.text(MARGIN, page.top, "title", &plot.title);
    page.legend();
    page.vertical();
    page.horizontal();
    plot.lines.iter().for_each(|line| page.line(line));
    let height = page.foot() + 56.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">{title}</title>\n\
         <desc id=\"desc\">{desc}</desc>\n<style>\n{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n",
        title = Escaped(&plot.title),
        desc = Escaped(&in_words(plot)),
        body = page.body,
    )
}

/// What the picture shows, for those who do not see it: all of it.
fn in_words(plot: &Plot) -> String {
    let mut text = plot.description.clone();
    for line in &plot.lines {
        let point = |(x, y): &(u64, u64)| format!("{} at {}", thousands(*y), plot.unit.name(*x));
        let points: Vec<String> = line.points.iter().map(point).collect();
        text += &format!("\n{}, {} by {}: {}.", line.name, plot.y, plot.x, points.join(", "));
    }
    text
}

struct Page<'a> {
    plot: &'a Plot,
    x: Axis,
    y: Axis,
    /// The last line above the curves, then where the vertical axis begins.
    top: f64,
    body: String,
}

impl Page<'_> {
    fn legend(&mut self) {
        self.top += 26.0;
        let mut x = MARGIN;
        for line in &self.plot.lines {
            let width = 40.0 + 7.0 * float(line.name.len() as u64);
            if x > MARGIN && x + width > WIDTH - MARGIN {
                (x, self.top) = (MARGIN, self.top + 20.0);
            }
            let middle = self.top - 4.0;
            self.stroke(line, &[(x, middle), (x + 30.0, middle)]);
            self.mark(line, (x + 15.0, middle), None);
            self.text(x + 38.0, self.top, "", &line.name);
            x += width + 22.0;
        }
    }

    /// The vertical axis, and a line across for each tick.
    fn vertical(&mut self) {
        self.top += 34.0;
        let logarithmic = if self.y.is_logarithmic() { ", by powers of ten" } else { "" };
        self.text(MARGIN, self.top, "dim", &format!("{}{logarithmic}", self.plot.y));
        self.top += 16.0;
        for tick in self.y.ticks() {
            let y = self.y_of(tick);
            self.segment("grid", (LEFT, y), (RIGHT, y));
            self.text(LEFT - 10.0, y + 4.0, "dim end", &thousands(tick));
        }
        self.segment("axis", (LEFT, self.top), (LEFT, self.foot()));
    }

    fn horizontal(&mut self) {
        let foot = self.foot();
        self.segment("axis", (LEFT, foot), (RIGHT, foot));
        let ticks = self.x.ticks();
        for tick in &ticks {
            let x = self.x_of(*tick);
            self.segment("axis", (x, foot), (x, foot + 5.0));
            self.text(x, foot + 20.0, "dim middle", &self.plot.unit.name(*tick));
        }
        if let (true, [zero, first, ..]) = (self.x.is_cut(), &*ticks) {
            self.cut((self.x_of(*zero) + self.x_of(*first)) / 2.0, foot);
        }
        self.text((LEFT + RIGHT) / 2.0, foot + 42.0, "dim middle", &self.plot.x);
    }

    /// Two strokes where steps before and behind are not alike.
    fn cut(&mut self, x: f64, y: f64) {
        for x in [x - 4.0, x + 1.0] {
            self.segment("axis", (x, y + 5.0), (x + 4.0, y - 5.0));
        }
    }

    fn line(&mut self, line: &Line) {
        let places: Vec<_> = line.points.iter().map(|&(x, y)| (self.x_of(x), self.y_of(y))).collect();
        self.stroke(line, &places);
        for (&(x, y), place) in iter::zip(&line.points, places) {
            let (x, y) = (self.plot.unit.name(x), thousands(y));
            self.mark(line, place, Some(&format!("{}: {y} at {x}", line.name)));
        }
    }

    fn stroke(&mut self, line: &Line, places: &[(f64, f64)]) {
        let (colour, dashes) = (line.colour % 2, line.dashes % 3);
        let points: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.add(format_args!(
            "<polyline class=\"line colour{colour} dashes{dashes}\" points=\"{points}\"/>"
        ));
    }

    /// A mark at a place: a disc or a rhombus, so that colours are not all that tells lines apart.
    fn mark(&mut self, line: &Line, (x, y): (f64, f64), name: Option<&str>) {
        let name = name.map(|name| format!("<title>{}</title>", Escaped(name))).unwrap_or_default();
        match line.colour % 2 {
            0 => self.add(format_args!(
                "<circle class=\"mark colour0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\">{name}</circle>"
            )),
            _ => self.add(format_args!(
                "<path class=\"mark colour1\" d=\"M{x:.1} {y:.1}m-5 0l5-5 5 5-5 5z\">{name}</path>"
            )),
        }
    }

    fn segment(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.add(format_args!("<text{class} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", Escaped(text)));
    }

    fn add(&mut self, element: fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("a String takes everything");
    }

    fn x_of(&self, value: u64) -> f64 {
        LEFT + (RIGHT - LEFT) * self.x.place(value)
    }

    fn y_of(&self, value: u64) -> f64 {
        self.foot() - HEIGHT * self.y.place(value)
    }

    fn foot(&self) -> f64 {
        self.top + HEIGHT
    }
}
