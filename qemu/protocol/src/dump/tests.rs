//! What is written is read back, and nothing malformed gets through or panics.

use super::{Arena, BEGIN, Dump, DumpError, END, Kind, Line, Pool, Region, Slot, Window};

const WINDOW: Window = Window { start: 0xffff_9000_0000_0000, end: u64::MAX };
const ARENA: Arena = Arena { start: 1, end: 2, overhead: 3, own: 7, frames: 4, available: 5, idle: 6 };
const REGION: Region = Region { start: 1, bytes: 2, accessible: 3, executable: 4, resident: 5 };

fn pool(kind: Kind) -> Pool {
    Pool { kind, slots: 1, base: 2, stride: 3, reservation: 4, guard_before: 5, limit: 6, tables: 7 }
}

fn slot(kind: Kind, used: bool) -> Slot {
    Slot { kind, number: 1, base: 2, generation: 3, used, accessible: 4, resident: 5 }
}

fn lines() -> Vec<Line> {
    let kinds = [Kind::Memory, Kind::Table, Kind::Stack];
    let mut lines = vec![Line::Window(WINDOW), Line::Arena(ARENA), Line::Region(REGION)];
    lines.extend(kinds.map(|kind| Line::Pool(pool(kind))));
    lines.extend(kinds.map(|kind| Line::Slot(slot(kind, kind == Kind::Table))));
    lines
}

fn text() -> String {
    let lines = lines().into_iter().map(|line| format!("{line}\n"));
    format!("{BEGIN}\n{}{END}\n", lines.collect::<String>())
}

#[test]
fn every_line_comes_back() {
    for line in lines() {
        assert_eq!(Line::parse(&line.to_string()), Some(line));
    }
    assert_eq!(
        slot(Kind::Stack, true).to_string(),
        "slot kind=stack number=0x1 base=0x2 generation=0x3 used=yes accessible=0x4 resident=0x5"
    );
}

#[test]
fn a_dump_comes_back() {
    let dump = Dump::parse(&text()).unwrap();
    assert_eq!((dump.window, dump.arena, &*dump.regions), (WINDOW, ARENA, [REGION].as_slice()));
    assert_eq!((dump.pools.len(), dump.slots.len()), (3, 3));
    assert_eq!(dump.pools[2], pool(Kind::Stack));
}

#[test]
fn every_truncation_is_refused() {
    let text = text();
    // The newline behind the last line may be missing.
    // Miri would take minutes for all.
    for length in (0..text.len() - 1).step_by(if cfg!(miri) { 97 } else { 1 }) {
        assert!(Dump::parse(&text[..length]).is_err(), "{length}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let parse = |from: &str, to: &str| Dump::parse(&text().replacen(from, to, 1)).unwrap_err();
    assert_eq!(parse("dump 1", "dump 2"), DumpError::NotADump { line: "allotment dump 2".into() });
    for (from, to) in [
        ("start=0x1", "start=1"),
        ("start=0x1", "start=0x+1"),
        ("start=0x1", "start=0x10000000000000000"),
        ("idle=", "idol="),
        ("idle=0x6", "idle=0x6 more=0x7"),
        (" idle=0x6", ""),
        ("arena", "arenas"),
        ("arena ", "arena  "),
    ] {
        assert!(matches!(parse(from, to), DumpError::UnknownLine { number: 3, .. }), "{from} {to}");
    }
    let without = text().replace(&format!("{ARENA}\n"), "");
    assert_eq!(Dump::parse(&without), Err(DumpError::Missing { what: "line `arena`" }));
    assert!(parse("arena", "x").to_string().starts_with("line 3 of the dump means nothing: `x start"));
}
