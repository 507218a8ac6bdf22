//! Curves: rows that are points of a picture, `docs/performance/CURVE.svg`, with both architectures in it.
//!
//! ```text
//!   curve-dirty-pages/zeros/16     a row of the kernel's, and of the data files
//!         |           |     +- where on the horizontal axis
//!         |           +------- which of the curve's series
//!         +------------------- which picture
//! ```

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::data::Data;
use crate::arch::Arch;
use crate::plot::{self, Line, Plot, Scale, Unit};
use crate::workspace;

/// A picture.
#[derive(Debug)]
pub(super) struct Curve {
    /// The kernel's name for it, and the file's.
    name: &'static str,
    title: &'static str,
    /// What it shows, in a sentence.
    description: &'static str,
    x: &'static str,
    unit: Unit,
    scale: Scale,
    /// The kernel's names for its series, and what they are. A single one needs no other name than the
    /// architecture's.
    series: &'static [(&'static str, &'static str)],
}

/// All of them, in the page's order.
const CURVES: &[Curve] = &[
    Curve {
        name: "dirty-pages",
        title: "Allocate a memory of 1 MiB, write adjacent pages, deallocate it",
        description: "Instructions of a whole cycle over the number of pages that are written.",
        x: "pages written, of 4 KiB",
        unit: Unit::Count,
        scale: Scale::Linear,
        series: &[("zeros", "zeros"), ("image", "an image")],
    },
    Curve {
        name: "image-size",
        title: "Allocate a memory with an image, write 16 adjacent pages, deallocate it",
        description: "Instructions of a whole cycle over the size of the image.",
        x: "size of the image",
        unit: Unit::Bytes,
        scale: Scale::Log2,
        series: &[("image", "")],
    },
    Curve {
        name: "memory-size",
        title: "Allocate a memory, write 16 adjacent pages, deallocate it",
        description: "Instructions of a whole cycle over the size of the memory.",
        x: "size of the memory",
        unit: Unit::Bytes,
        scale: Scale::Log2,
        series: &[("zeros", "")],
    },
];

/// The row of a point, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Point<'a> {
    curve: &'a str,
    series: &'a str,
    x: u64,
}

impl<'a> Point<'a> {
    /// None if the row is no point of a curve.
    pub(super) fn of_row(name: &'a str) -> Option<Self> {
        let (curve, point) = name.strip_prefix("curve-")?.split_once('/')?;
        let (series, x) = point.split_once('/')?;
        Some(Self { curve, series, x: x.parse().ok()? })
    }
}

/// Draws all curves that have points.
pub(super) fn write(files: &[(Arch, Data)]) -> Result<()> {
    for (path, picture) in pictures(files) {
        fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        workspace::write_atomically(&path, |file| Ok(file.write_all(picture.as_bytes())?))?;
    }
    Ok(())
}

/// The pictures that are not as [`write`] would make them.
pub(super) fn stale(files: &[(Arch, Data)]) -> Vec<PathBuf> {
    let differs = |(path, picture): &(PathBuf, String)| {
        !fs::read_to_string(path).is_ok_and(|written| written == *picture)
    };
    pictures(files).into_iter().filter(differs).map(|(path, _)| path).collect()
}

/// What the page says of them: the pictures, one below the other.
pub(super) fn in_page(files: &[(Arch, Data)]) -> String {
    let drawn = CURVES.iter().filter(|curve| !curve.lines(files).is_empty());
    drawn.map(|curve| format!("\n![{}](performance/{}.svg)\n", curve.title, curve.name)).collect()
}

fn pictures(files: &[(Arch, Data)]) -> Vec<(PathBuf, String)> {
    CURVES
        .iter()
        .map(|curve| (curve, curve.lines(files)))
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(curve, lines)| (curve.path(), plot::write(&curve.plot(lines))))
        .collect()
}

impl Curve {
    fn path(&self) -> PathBuf {
        workspace::root().join(format!("docs/performance/{}.svg", self.name))
    }

    fn plot(&self, lines: Vec<Line>) -> Plot {
        Plot {
            title: self.title.to_owned(),
            description: self.description.to_owned(),
            x: self.x.to_owned(),
            unit: self.unit,
            scale: self.scale,
            y: "instructions".to_owned(),
            lines,
        }
    }

    /// Those that have points: for each architecture all series.
    fn lines(&self, files: &[(Arch, Data)]) -> Vec<Line> {
        let mut lines = Vec::new();
        for (arch, data) in files {
            for (dashes, (series, title)) in self.series.iter().enumerate() {
                let points = self.points(series, data);
                if !points.is_empty() {
                    let name = if title.is_empty() { arch.to_string() } else { format!("{arch}, {title}") };
                    let colour = usize::from(*arch == Arch::Aarch64);
                    lines.push(Line { name, colour, dashes, points });
                }
            }
        }
        lines
    }

    fn points(&self, series: &str, data: &Data) -> Vec<(u64, u64)> {
        let ours = |(name, count): (&String, &u64)| {
            let point = Point::of_row(name)?;
            (point.curve == self.name && point.series == series).then_some((point.x, *count))
        };
        let mut points: Vec<_> = data.rows.iter().filter_map(ours).collect();
        points.sort_unstable();
        points
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::data::{all, tests::data};
    use super::{CURVES, Curve, Point, in_page, pictures, stale};
    use crate::arch::Arch;
    use crate::plot::{Scale, Unit};
    use crate::workspace;

    const CURVE: Curve = Curve {
        name: "c",
        title: "t",
        description: "d",
        x: "x",
        unit: Unit::Count,
        scale: Scale::Linear,
        series: &[("warm", ""), ("cold", "cold")],
    };

    #[test]
    fn a_row_of_a_curve_says_which_where() {
        let point = Point { curve: "dirty-pages", series: "zeros", x: 16 };
        assert_eq!(Point::of_row("curve-dirty-pages/zeros/16"), Some(point));
        for other in ["pool-cold", "curve-a", "curve-a/b", "curve-a/b/c", "curve-a/b/1/2", "a/b/1", ""] {
            assert_eq!(Point::of_row(other), None, "{other}");
        }
    }

    #[test]
    fn lines_are_series_of_architectures_with_points_in_order() {
        let rows =
            [("curve-c/warm/128", 9), ("curve-c/warm/16", 4), ("curve-c/warm/2", 3), ("curve-d/warm/1", 1)];
        let cold = [("curve-c/warm/2", 5), ("curve-c/cold/2", 7), ("curve-c/unknown/2", 8)];
        let files = [(Arch::X86_64, data(&rows)), (Arch::Aarch64, data(&cold))];
        let lines = CURVE.lines(&files);
        let seen: Vec<_> = lines.iter().map(|line| (&*line.name, line.colour, line.dashes)).collect();
        assert_eq!(seen, [("x86_64", 0, 0), ("aarch64", 1, 0), ("aarch64, cold", 1, 1)]);
        assert_eq!(lines[0].points, [(2, 3), (16, 4), (128, 9)]);
        assert_eq!((&*lines[1].points, &*lines[2].points), (&[(2, 5)][..], &[(2, 7)][..]));
        // An architecture keeps its colour when it is alone.
        assert_eq!(CURVE.lines(&files[1..])[0].colour, 1);
    }

    #[test]
    fn what_has_no_points_is_neither_drawn_nor_shown() {
        let files = [(Arch::X86_64, data(&[("curve-memory-size/zeros/65536", 5), ("curve-z/zeros/1", 1)]))];
        let drawn = pictures(&files);
        assert_eq!(drawn.len(), 1);
        assert!(drawn[0].0.ends_with("docs/performance/memory-size.svg"));
        let page = in_page(&files);
        assert!(page.contains("](performance/memory-size.svg)") && !page.contains("dirty-pages"), "{page}");
        assert_eq!(in_page(&[]), "");
    }

    #[test]
    fn the_pictures_show_what_the_data_files_say() {
        let files = all().unwrap();
        assert!(stale(&files).is_empty(), "draw them with `cargo xtask bench curve`");
        // And there are no others.
        let directory = workspace::root().join("docs/performance");
        let there: BTreeSet<_> =
            std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
        let there = there.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "svg"));
        let drawn: BTreeSet<_> = pictures(&files).into_iter().map(|(path, _)| path).collect();
        assert_eq!(there.collect::<BTreeSet<_>>(), drawn);
    }

    #[test]
    fn every_point_that_is_kept_is_drawn() {
        for (arch, data) in all().unwrap() {
            for point in data.rows.keys().filter_map(|row| Point::of_row(row)) {
                let of_series = |curve: &Curve| curve.series.iter().any(|(name, _)| *name == point.series);
                let drawn = CURVES.iter().any(|curve| curve.name == point.curve && of_series(curve));
                assert!(
                    drawn,
                    "{arch}: no picture has {point:?}; add it to CURVES, or measure everything again"
                );
            }
        }
    }
}
