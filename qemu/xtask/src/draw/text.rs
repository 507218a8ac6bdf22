//! A picture as text: box drawing where the terminal has it, else ASCII.
//!
//! ```text
//!   16 memory slots, 4 GiB and 32 MiB of guard each
//!                           4K   64K   1M    16M  256M   4G
//!    0 0xffff900002000000  ░│█████████··················│╱░  256 KiB
//! ```

use core::fmt::Write;

use super::picture::{Chapter, Part, Picture, Row, Shade, Strip};
use super::scale::{self, float, place};
use super::terminal::Style;
use crate::units::bytes;

/// Columns in front of a bar: a number, and on wide terminals an address.
const NUMBER: usize = 4;
const ADDRESS: usize = 19;
/// From this width on there are addresses.
const WIDE: usize = 72;
/// Columns behind a bar for its note.
const NOTE: usize = 23;

/// The picture, each line ended.
pub(super) fn write(picture: &Picture, style: &Style) -> String {
    let mut page = Page { style: *style, text: String::new() };
    page.line(&picture.title);
    page.line("");
    page.strip(&picture.window, |_| 1.0);
    for chapter in &picture.chapters {
        page.line("");
        page.chapter(chapter);
    }
    page.line("");
    page.legend();
    page.line("");
    page.strip(&picture.arena, |part| float(part.bytes));
    page.text
}

struct Page {
    style: Style,
    text: String,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A bar of parts, each at least a column wide, and what they are.
    fn strip(&mut self, strip: &Strip, weight: impl Fn(&Part) -> f64) {
        self.line(&strip.title);
        let widths = share(self.style.width - 2, strip.parts.iter().map(weight));
        let frame = self.glyphs().frame;
        let mut bar = String::from(frame);
        for (part, width) in strip.parts.iter().zip(widths) {
            bar += &self.fill(part.shade, width);
        }
        self.line(&(bar + frame));
        for part in &strip.parts {
            let start = part.start.map_or_else(String::new, |start| format!("{start:#018x}  "));
            let line = format!("  {start}{:>9}  {}", bytes(part.bytes), part.name);
            let swatch = self.fill(part.shade, 2);
            self.line(&format!("  {swatch}{line}"));
        }
    }

    fn chapter(&mut self, chapter: &Chapter) {
        self.line(&chapter.title);
        if !chapter.rows.is_empty() {
            let axis = self.axis(chapter.end);
            self.line(&axis);
        }
        for row in &chapter.rows {
            let line = self.row(row, chapter.end);
            self.line(&line);
        }
        if let Some(rest) = &chapter.rest {
            self.line(&format!("{:>NUMBER$} {rest}", "+"));
        }
    }

    /// The names of sizes above a bar, as many as do not touch.
    fn axis(&self, end: u64) -> String {
        let (before, width) = (self.before() + 2, self.bar());
        let mut axis = " ".repeat(before);
        for (tick, name) in scale::ticks(end) {
            let name =
                name.replace(" KiB", "K").replace(" MiB", "M").replace(" GiB", "G").replace(" TiB", "T");
            let at = before + column(place(tick, end), width);
            // Ends where the size ends.
            let from = at.saturating_sub(name.len());
            if from > axis.len() || axis.len() == before && from >= before {
                axis = format!("{axis:from$}{name}");
            }
        }
        axis
    }

    fn row(&self, row: &Row, end: u64) -> String {
        let glyphs = self.glyphs();
        let mut line = format!("{:>NUMBER$} ", row.name);
        if self.style.width >= WIDE {
            let _ = write!(line, "{:#018x} ", row.address);
        }
        line += &if row.guarded_before { self.fill(Shade::Guard, 1) } else { " ".into() };
        line += glyphs.frame;
        let mut at = 0;
        for (shade, to) in &row.spans {
            let mut to_column = column(place(*to, end), self.bar());
            // Whatever there is shows.
            if *to > 0 && *shade != Shade::Reserved {
                to_column = to_column.max(at + 1).min(self.bar());
            }
            line += &self.fill(*shade, to_column.saturating_sub(at));
            at = at.max(to_column);
        }
        line += &" ".repeat(self.bar() - at);
        let guard = self.fill(Shade::Guard, 2);
        format!("{line}{}{}{guard} {}", glyphs.frame, glyphs.cut, row.note)
    }

    fn legend(&mut self) {
        let entry = |shade: Shade| format!("{} {}", self.fill(shade, 2), shade.name());
        let mut line = String::new();
        let mut length = 0;
        for shade in Shade::OF_ROWS {
            let more = shade.name().len() + 5;
            if length + more > self.style.width {
                line.push('\n');
                length = 0;
            }
            length += more;
            let _ = write!(line, "{}  ", entry(shade));
        }
        let line = line.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        self.line(&line);
    }

    /// Columns in front of a bar and its guard.
    fn before(&self) -> usize {
        NUMBER + 1 + if self.style.width >= WIDE { ADDRESS } else { 0 }
    }

    /// Columns of a bar, without its frame.
    fn bar(&self) -> usize {
        self.style.width.saturating_sub(self.before() + 7 + NOTE)
    }

    fn glyphs(&self) -> &'static Glyphs {
        if self.style.unicode { &UNICODE } else { &ASCII }
    }

    fn fill(&self, shade: Shade, width: usize) -> String {
        let (glyph, colour) = self.glyphs().of(shade);
        let text = glyph.repeat(width);
        if self.style.colour && width > 0 { format!("\x1b[{colour}m{text}\x1b[0m") } else { text }
    }
}

/// What stands for what.
struct Glyphs {
    frame: &'static str,
    /// Where an axis is cut.
    cut: &'static str,
    accessible: &'static str,
    code: &'static str,
    kept: &'static str,
    reserved: &'static str,
    guard: &'static str,
    tables: &'static str,
    records: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    frame: "│",
    cut: "╱",
    accessible: "█",
    code: "▓",
    kept: "▒",
    reserved: "·",
    guard: "░",
    tables: "▤",
    records: "▥",
};

const ASCII: Glyphs = Glyphs {
    frame: "|",
    cut: "/",
    accessible: "#",
    code: "%",
    kept: "+",
    reserved: ".",
    guard: "x",
    tables: "=",
    records: "-",
};

impl Glyphs {
    /// The character, and the parameters of its colour (ECMA-48, 8.3.117).
    fn of(&self, shade: Shade) -> (&'static str, &'static str) {
        match shade {
            Shade::Accessible => (self.accessible, "34"),
            Shade::Code => (self.code, "35"),
            Shade::Kept => (self.kept, "33"),
            Shade::Reserved => (self.reserved, "2"),
            Shade::Guard => (self.guard, "31"),
            Shade::Tables => (self.tables, "36"),
            Shade::Records => (self.records, "2"),
            Shade::Free => (self.reserved, "2"),
        }
    }
}

/// The column of a place between 0 and 1.
#[expect(clippy::cast_possible_truncation, reason = "between 0 and a line's width")]
fn column(place: f64, width: usize) -> usize {
    (place * float(width as u64)).round() as usize
}

/// Shares columns out by weight, at least one each; what rounding leaves is the heaviest's.
fn share(columns: usize, weights: impl Iterator<Item = f64>) -> Vec<usize> {
    let weights: Vec<f64> = weights.collect();
    let total: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut widths: Vec<usize> =
        weights.iter().map(|weight| column(weight / total, columns).max(1)).collect();
    let heaviest = (0..weights.len()).max_by(|a, b| weights[*a].total_cmp(&weights[*b]));
    if let Some(heaviest) = heaviest {
        let others = widths.iter().sum::<usize>() - widths[heaviest];
        widths[heaviest] = columns.saturating_sub(others).max(1);
    }
    widths
}
