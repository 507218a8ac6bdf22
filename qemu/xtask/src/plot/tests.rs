//! What must hold of any picture.

use super::axis::Axis;
use super::{Line, Plot, Scale, Unit, write};

fn line(name: &str, number: usize, points: &[(u64, u64)]) -> Line {
    Line { name: name.to_owned(), colour: number, dashes: number, points: points.to_vec() }
}

fn plot(scale: Scale, lines: Vec<Line>) -> Plot {
    Plot {
        title: "Cost over size".to_owned(),
        description: "More costs more.".to_owned(),
        x: "size".to_owned(),
        unit: Unit::Bytes,
        scale,
        y: "instructions".to_owned(),
        lines,
    }
}

/// The same over and over, and such as nobody would ask for.
fn all_kinds() -> Vec<Plot> {
    let usual = [(0, 300), (65536, 900), (1 << 20, 2_000), (1 << 30, 7_000)];
    let wide = [(65536, 900), (1 << 30, 9_000_000)];
    let extreme = [(0, 0), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)];
    let many = (0..9).map(|number| line("a rather long name of a line", number, &usual)).collect();
    let mut plots = Vec::new();
    for scale in [Scale::Linear, Scale::Log2] {
        plots.push(plot(scale, Vec::new()));
        plots.push(plot(scale, vec![line("nothing", 0, &[])]));
        plots.push(plot(scale, vec![line("zero", 0, &[(0, 0)])]));
        plots.push(plot(scale, vec![line("one", 1, &[(7, 13)])]));
        plots.push(plot(scale, vec![line("usual", 0, &usual), line("wide", 1, &wide)]));
        plots.push(plot(scale, vec![line("extreme", 0, &extreme)]));
        plots.push(plot(scale, Vec::clone(&many)));
    }
    plots
}

#[test]
fn a_picture_is_well_formed_and_the_same_each_time() {
    for plot in all_kinds() {
        let svg = write(&plot);
        well_formed(&svg).unwrap_or_else(|wrong| panic!("{wrong}\n{svg}"));
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<script"), "{svg}");
        assert_eq!(svg, write(&plot.clone()));
    }
}

#[test]
fn the_check_for_well_formedness_can_fail() {
    for wrong in [
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "<a b=c/>",
        "<a b=\"c/>",
        "<a>&</a>",
        "<a>&x;</a>",
        "<a b=\"<\"/>",
        "x",
    ] {
        assert!(well_formed(wrong).is_err(), "{wrong}");
    }
    well_formed("<a><b c=\"d\" e=\"&amp;\"/>text &lt;</a>\n").unwrap();
}

#[test]
fn what_a_line_is_called_is_no_markup() {
    let mut plot = plot(Scale::Log2, vec![line("<script>\"&\x07", 0, &[(1, 1)])]);
    (plot.title, plot.x, plot.y) = ("<&".to_owned(), "<&".to_owned(), "<&".to_owned());
    plot.description = "<&".to_owned();
    let svg = write(&plot);
    well_formed(&svg).unwrap();
    assert!(svg.contains("&lt;script&gt;&quot;&amp;?") && !svg.contains("<script>"), "{svg}");
}

#[test]
fn words_say_what_lines_show() {
    let svg = write(&plot(Scale::Log2, vec![line("one", 0, &[(0, 300), (65536, 1_234)])]));
    let desc = svg.split("<desc id=\"desc\">").nth(1).unwrap().split("</desc>").next().unwrap();
    assert_eq!(desc, "More costs more.\none, instructions by size: 300 at 0 B, 1,234 at 64 KiB.");
    assert!(svg.contains("<title>one: 1,234 at 64 KiB</title>"), "{svg}");
    assert!(svg.contains("prefers-color-scheme:dark"));
}

#[test]
fn ticks_are_round_and_hold_every_value() {
    let ticks = |axis: Axis| axis.ticks();
    let even = |values: &[u64]| ticks(Axis::horizontal(Scale::Linear, values.iter().copied()));
    let powers = |values: &[u64]| ticks(Axis::horizontal(Scale::Log2, values.iter().copied()));
    let counts = |values: &[u64]| ticks(Axis::vertical(values.iter().copied()));
    assert_eq!(even(&[0, 3, 128]), [0, 16, 32, 48, 64, 80, 96, 112, 128]);
    assert_eq!(even(&[129]), [0, 32, 64, 96, 128, 160]);
    assert_eq!(even(&[]), [0, 1]);
    assert_eq!(powers(&[65536, 1 << 26]), [16, 18, 20, 22, 24, 26].map(|bits| 1 << bits));
    assert_eq!(powers(&[0, 1, 5]), [0, 1, 2, 4, 8]);
    assert_eq!(powers(&[4]), [4, 8]);
    assert_eq!(powers(&[]), [1, 2]);
    assert_eq!(counts(&[300, 7_100]), [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|nth| nth * 1_000));
    assert_eq!(counts(&[300, 8_001]), [0, 2_000, 4_000, 6_000, 8_000, 10_000]);
    assert_eq!(counts(&[100, 10_000]), [0, 2_000, 4_000, 6_000, 8_000, 10_000]);
    assert_eq!(counts(&[100, 10_100]), [100, 1_000, 10_000, 100_000]);
    assert_eq!(counts(&[0, 3_000_000]), [0, 500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000]);
    assert_eq!(counts(&[]), [0, 1]);
    for values in [[1, 1], [3, 1000], [999, 100_001], [1, u64::MAX], [u64::MAX, u64::MAX]] {
        for ticks in [even(&values), powers(&values), counts(&values)] {
            assert!(ticks.is_sorted() && (2..=10).contains(&ticks.len()), "{ticks:?}");
            assert!(ticks[ticks.len() - 1] >= values[1], "{ticks:?}");
        }
    }
}

#[test]
fn places_grow_with_values_from_the_first_tick_to_the_last() {
    let values: Vec<u64> = [0, 1, 2, 3, 4, 5, 7, 8, 100, 1000, 1023, 1024, 1025, 4096, 5000, 8192].into();
    for axis in [
        Axis::horizontal(Scale::Linear, values.iter().copied()),
        Axis::horizontal(Scale::Log2, values.iter().copied()),
        Axis::vertical(values.iter().copied()),
        Axis::vertical(values[1..].iter().copied()),
    ] {
        let places: Vec<f64> = values.iter().map(|value| axis.place(*value)).collect();
        let distinct = if axis.is_logarithmic() && !axis.is_cut() { 1 } else { 0 };
        assert!(places[distinct..].is_sorted_by(|a, b| a < b), "{axis:?} {places:?}");
        let ticks = axis.ticks();
        assert_eq!((axis.place(ticks[0]), axis.place(ticks[ticks.len() - 1])), (0.0, 1.0), "{axis:?}");
        assert_eq!(axis.place(u64::MAX), 1.0);
    }
    // A step of the axis is a step of the picture.
    let axis = Axis::horizontal(Scale::Log2, [0, 1, 8].into_iter());
    assert_eq!([0, 1, 2, 4, 8].map(|tick| axis.place(tick)), [0.0, 0.25, 0.5, 0.75, 1.0]);
    let axis = Axis::vertical([1, 1000].into_iter());
    let (ten, thirds) = (axis.place(10), 1.0 / 3.0);
    assert!((ten - thirds).abs() < 1e-5, "{ten}");
}

/// Whether a text is one element: every tag closed in turn, every attribute quoted, no stray markup.
fn well_formed(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut elements = 0;
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let Some(tag) = rest.strip_prefix('<') else {
            let end = rest.find('<').ok_or("text behind the last tag")?;
            plain(&rest[..end])?;
            rest = &rest[end..];
            continue;
        };
        let (tag, behind) = tag.split_once('>').ok_or("a tag that does not end")?;
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes something else"));
            }
            continue;
        }
        let (inner, empty) = tag.strip_suffix('/').map_or((tag, false), |inner| (inner, true));
        let (name, attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        attributes_are_quoted(attributes)?;
        elements += usize::from(open.is_empty());
        if !empty {
            open.push(name);
        }
    }
    if open.is_empty() && elements == 1 {
        Ok(())
    } else {
        Err(format!("{elements} elements, open: {open:?}"))
    }
}

fn attributes_are_quoted(mut attributes: &str) -> Result<(), String> {
    while !attributes.is_empty() {
        let (name, rest) = attributes.split_once("=\"").ok_or_else(|| format!("no value: {attributes}"))?;
        let (value, rest) = rest.split_once('"').ok_or_else(|| format!("no end of {name}"))?;
        plain(value)?;
        attributes = rest.trim_start();
    }
    Ok(())
}

/// Text without markup, whose entities are among the four that XML shares with us.
fn plain(text: &str) -> Result<(), String> {
    let known = |entity: &str| ["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known));
    if text.contains('<') || !text.split('&').skip(1).all(known) {
        return Err(format!("markup in {text:?}"));
    }
    Ok(())
}
