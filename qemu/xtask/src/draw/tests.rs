//! Pictures of two machines, compared with how they looked when somebody looked at them.
//!
//! A picture that is meant to change: run the test, look at what it wrote beside the old one, and copy it
//! over that.

use std::fs;
use std::path::Path;

use protocol::dump::{Dump, Pool, Slot};

use super::picture::Picture;
use super::scale::{place, ticks};
use super::terminal::Style;
use super::{svg, text};

const POOLING: &str = include_str!("snapshots/pooling.dump");
const ON_DEMAND: &str = include_str!("snapshots/on-demand.dump");
const PLAIN: Style = Style { width: 110, unicode: true, colour: false };
const KIB: u64 = 1024;

fn picture(dump: &str, what: &str) -> Picture {
    Picture::of(&Dump::parse(dump).unwrap(), what)
}

/// Compares with a file of `snapshots`, and leaves what differs in the target directory.
#[track_caller]
fn assert_snapshot(name: &str, got: &str) {
    let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/draw/snapshots").join(name);
    if fs::read_to_string(&known).is_ok_and(|known| known == got) {
        return;
    }
    let new = crate::workspace::cache("snapshots").unwrap().join(name);
    fs::write(&new, got).unwrap();
    panic!(
        "{name} looks different; look at {}, and if it is right copy it to {}",
        new.display(),
        known.display()
    );
}

#[test]
fn a_machine_with_slots_looks_as_it_did() {
    let picture = picture(POOLING, "draw.wat on x86_64, pooling");
    assert_snapshot("pooling.svg", &svg::write(&picture));
    assert_snapshot("pooling.txt", &text::write(&picture, &PLAIN));
    assert_snapshot(
        "pooling-narrow.txt",
        &text::write(&picture, &Style { width: 60, unicode: false, ..PLAIN }),
    );
}

#[test]
fn a_machine_on_demand_looks_as_it_did() {
    let picture = picture(ON_DEMAND, "draw.wat on aarch64, on-demand");
    assert_snapshot("on-demand.svg", &svg::write(&picture));
    assert_snapshot("on-demand.txt", &text::write(&picture, &PLAIN));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [50, 60, 80, 140] {
        for unicode in [false, true] {
            for dump in [POOLING, ON_DEMAND] {
                let picture = picture(dump, "m");
                let text = text::write(&picture, &Style { width, unicode, colour: false });
                let bars = text.lines().filter(|line| line.contains(['│', '|']));
                for line in bars {
                    let columns = line.chars().count();
                    assert!(columns <= width, "{columns} of {width}: {line}");
                }
                assert!(unicode || text.is_ascii(), "{text}");
            }
        }
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    let picture = picture(POOLING, "m");
    let coloured = text::write(&picture, &Style { colour: true, ..PLAIN });
    let mut plain = String::new();
    for (number, part) in coloured.split('\x1b').enumerate() {
        plain += if number == 0 { part } else { part.split_once('m').unwrap().1 };
    }
    assert_ne!(coloured, plain);
    assert_eq!(plain, text::write(&picture, &PLAIN));
}

#[test]
fn little_shows_and_much_does_not_overflow() {
    let mut dump = Dump::parse(POOLING).unwrap();
    let slot = |number, accessible| Slot {
        number,
        used: true,
        accessible,
        resident: accessible,
        ..Dump::parse(POOLING).unwrap().slots[0]
    };
    dump.slots = vec![slot(0, 4 * KIB), slot(1, u64::MAX / 4)];
    let text = text::write(&Picture::of(&dump, "m"), &PLAIN);
    let row =
        |number: &str| text.lines().find(|line| line.trim_start().starts_with(number)).unwrap().to_owned();
    assert!(row("0 0x").contains('█') && row("0 0x").contains('·'), "{text}");
    assert!(row("1 0x").contains('█') && !row("1 0x").contains('·'), "{text}");
    let columns = |row: String| row.split('╱').next().unwrap().chars().count();
    assert_eq!(columns(row("0 0x")), columns(row("1 0x")), "{text}");
}

#[test]
fn many_slots_are_summed_up() {
    let mut dump = Dump::parse(POOLING).unwrap();
    let first = dump.slots[0];
    dump.slots = (0..100).map(|number| Slot { number, ..first }).collect();
    dump.pools[0].slots = 1000;
    let text = text::write(&Picture::of(&dump, "m"), &PLAIN);
    assert!(text.contains("68 more that are or were in use; 900 more, never used"), "{text}");
    // Nothing at all is a picture, too.
    (dump.slots, dump.pools, dump.regions) = (Vec::new(), Vec::new(), Vec::new());
    let picture = Picture::of(&dump, "m");
    assert!(text::write(&picture, &PLAIN).starts_with("m: 0 regions\n"));
    assert!(svg::write(&picture).ends_with("</svg>\n"));
}

#[test]
fn slots_of_one_kind_stand_in_the_pool_that_has_them() {
    let mut dump = Dump::parse(POOLING).unwrap();
    let (pool, first) = (dump.pools[0], dump.slots[0]);
    let large = Pool { slots: 8, ..pool };
    let small = Pool { slots: 3, base: pool.base + 8 * pool.stride, reservation: 64 << 20, ..pool };
    let slot = |number, base| Slot { number, base, used: true, ..first };
    dump.slots = vec![slot(0, large.base), slot(0, small.base), slot(1, small.base + small.stride)];
    dump.pools = vec![large, small];
    let text = text::write(&Picture::of(&dump, "m"), &PLAIN);
    let chapter =
        |title: &str| text.split("\n\n").find(|chapter| chapter.contains(title)).unwrap().to_owned();
    let (large, small) = (chapter("8 memory slots, 4 GiB"), chapter("3 memory slots, 64 MiB"));
    assert!(large.contains("7 more, never used"), "{text}");
    assert!(small.contains("1 more, never used"), "{text}");
}

#[test]
fn what_a_file_is_called_is_no_markup() {
    let svg = svg::write(&picture(POOLING, "<script>\"&\x07"));
    assert!(svg.contains("&lt;script&gt;&quot;&amp;?") && !svg.contains("<script>"));
}

#[test]
fn ticks_are_named() {
    let named: Vec<String> = ticks(4 << 30).into_iter().map(|(_, name)| name).collect();
    assert_eq!(named, ["4 KiB", "64 KiB", "1 MiB", "16 MiB", "256 MiB", "4 GiB"]);
}

#[test]
fn places_grow_with_sizes() {
    let end = 4 << 30;
    let places: Vec<f64> = (0..33).map(|bits| place(1 << bits, end)).collect();
    assert!(places.is_sorted() && places[32] == 1.0 && place(0, end) == 0.0);
    assert_eq!((place(u64::MAX, end), place(5, 0)), (1.0, 0.0));
}
