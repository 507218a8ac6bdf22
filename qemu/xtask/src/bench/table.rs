//! The table on standard output: measured, target, baseline, difference.

use super::data::Data;
use super::rows::{self, readable};
use crate::arch::Arch;

/// How far a row may be from its baseline, in percent.
pub(super) const TOLERANCE: u64 = 2;

/// A row measured.
#[derive(Debug)]
pub(super) struct Line<'a> {
    name: &'a str,
    count: u64,
    target: Option<u64>,
    baseline: Option<u64>,
}

/// The rows in the tables' order.
pub(super) fn lines<'a>(arch: Arch, measured: &'a [(String, u64)], baseline: Option<&Data>) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'_>> = measured
        .iter()
        .map(|(name, count)| Line {
            name,
            count: *count,
            target: rows::find(name).and_then(|row| row.target(arch)),
            baseline: baseline.and_then(|baseline| baseline.rows.get(name)).copied(),
        })
        .collect();
    lines.sort_by_key(|line| rows::place(line.name));
    lines
}

impl Line<'_> {
    /// Whether it is beyond the tolerance, above or below.
    pub(super) fn moved(&self) -> bool {
        let difference = |baseline: u64| self.count.abs_diff(baseline);
        self.baseline.is_some_and(|baseline| difference(baseline) * 100 > baseline * TOLERANCE)
    }

    fn cells(&self) -> [String; 5] {
        let missed = self.target.is_some_and(|target| self.count > target);
        let or_dash = |count: Option<u64>| count.map_or("-".to_owned(), |count| readable(self.name, count));
        [
            rows::title(self.name).to_owned(),
            readable(self.name, self.count) + if missed { " !" } else { "  " },
            or_dash(self.target),
            or_dash(self.baseline),
            self.difference(),
        ]
    }

    /// How far it is from the baseline, in tenths of a percent.
    fn difference(&self) -> String {
        let Some(baseline) = self.baseline else { return "new".to_owned() };
        let far = if self.moved() { " !" } else { "  " };
        let sign = if self.count < baseline { '-' } else { '+' };
        match (self.count.abs_diff(baseline), baseline) {
            (0, _) => format!("={far}"),
            (difference, 0) => format!("{sign}{difference}{far}"),
            (difference, _) => {
                // Rounded up: what is not the same never looks the same.
                let tenths = (difference * 1000).div_ceil(baseline);
                format!("{sign}{}.{} %{far}", tenths / 10, tenths % 10)
            }
        }
    }
}

/// The whole table, with a heading.
pub(super) fn text(heading: &str, lines: &[Line<'_>]) -> String {
    let head = ["", "measured  ", "target", "baseline", "difference  "].map(str::to_owned);
    let cells: Vec<[String; 5]> = [head].into_iter().chain(lines.iter().map(Line::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = core::array::from_fn(width);
    let mut text = format!("{heading}\n");
    for row in &cells {
        let mut line = format!("  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::data;
    use super::{Line, lines, text};
    use crate::arch::Arch;

    fn line(count: u64, baseline: Option<u64>) -> Line<'static> {
        Line { name: "x", count, target: None, baseline }
    }

    #[test]
    fn two_percent_either_way_are_tolerated() {
        for (count, baseline, moved, difference) in [
            (1000, Some(1000), false, "=  "),
            (1020, Some(1000), false, "+2.0 %  "),
            (980, Some(1000), false, "-2.0 %  "),
            (1021, Some(1000), true, "+2.1 % !"),
            (979, Some(1000), true, "-2.1 % !"),
            (100_001, Some(100_000), false, "+0.1 %  "),
            (0, Some(0), false, "=  "),
            (1, Some(0), true, "+1 !"),
            (5, None, false, "new"),
        ] {
            let line = line(count, baseline);
            assert_eq!((line.moved(), &*line.difference()), (moved, difference), "{count} {baseline:?}");
        }
    }

    #[test]
    fn a_table_marks_what_misses_its_target() {
        let measured = [("later".to_owned(), 7), ("a-cycle-one-page".to_owned(), 7095)];
        let baseline = data(&[("a-cycle-one-page", 7000)]);
        let table = text("heading", &lines(Arch::X86_64, &measured, Some(&baseline)));
        let expected = "\
heading
                                       measured    target  baseline  difference
  a. the same with one page of memory   7,095 !     6,700     7,000    +1.4 %
  later                                     7           -         -         new
";
        let table: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(
            table.join("\n").split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>()
        );
        // No target there: nothing is missed.
        assert!(!text("", &lines(Arch::Aarch64, &measured, None)).contains('!'));
    }
}
