//! What is to be seen, from a dump: texts, amounts and shades, in no form yet.

use protocol::dump::{Dump, Kind, Pool, Region, Slot};

use crate::units::bytes;

const FRAME: u64 = 4096;

/// How many slots or regions are drawn one by one.
const ROWS: usize = 32;

/// A picture, from top to bottom.
pub(super) struct Picture {
    pub(super) title: String,
    /// The window, part by part, not to scale.
    pub(super) window: Strip,
    pub(super) chapters: Vec<Chapter>,
    /// The arena, to scale.
    pub(super) arena: Strip,
}

/// Parts side by side.
pub(super) struct Strip {
    pub(super) title: String,
    pub(super) parts: Vec<Part>,
}

pub(super) struct Part {
    pub(super) shade: Shade,
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Address of the first byte, where that matters.
    pub(super) start: Option<u64>,
}

/// Rows over a common axis.
pub(super) struct Chapter {
    pub(super) title: String,
    /// The largest size on the axis, in bytes.
    pub(super) end: u64,
    pub(super) rows: Vec<Row>,
    /// What is not drawn.
    pub(super) rest: Option<String>,
}

/// One slot or region.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) address: u64,
    /// Whether a guard stands before it, too.
    pub(super) guarded_before: bool,
    /// From the first byte on, each up to so many bytes.
    pub(super) spans: Vec<(Shade, u64)>,
    pub(super) note: String,
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    Accessible,
    Code,
    Kept,
    Reserved,
    Guard,
    Tables,
    Records,
    Free,
}

impl Shade {
    /// The legend of slots and regions, in order.
    pub(super) const OF_ROWS: [Self; 5] =
        [Self::Accessible, Self::Code, Self::Kept, Self::Reserved, Self::Guard];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accessible => "accessible",
            Self::Code => "code",
            Self::Kept => "kept frames, hidden",
            Self::Reserved => "reserved, faults",
            Self::Guard => "guard, faults",
            Self::Tables => "tables",
            Self::Records => "records",
            Self::Free => "free",
        }
    }
}

impl Picture {
    pub(super) fn of(dump: &Dump, what: &str) -> Self {
        let mut chapters: Vec<Chapter> = dump.pools.iter().map(|pool| chapter_of_pool(dump, pool)).collect();
        chapters.extend(chapter_of_regions(dump));
        let used: Vec<&Slot> = dump.slots.iter().filter(|slot| slot.used).collect();
        let title = match dump.pools.iter().map(|pool| pool.slots).sum() {
            0 => format!("{what}: {} regions", dump.regions.len()),
            slots => format!("{what}: {} of {slots} slots in use", used.len()),
        };
        Self { title, window: window(dump), chapters, arena: arena(dump) }
    }
}

/// What the window is cut into, by address.
fn window(dump: &Dump) -> Strip {
    let mut parts: Vec<Part> = dump
        .pools
        .iter()
        .map(|pool| Part {
            shade: Shade::Accessible,
            name: plural(pool.slots, slot_name(pool.kind)),
            bytes: pool.guard_before + pool.slots * pool.stride,
            start: Some(pool.base - pool.guard_before),
        })
        .collect();
    if let (Some(first), Some(last)) = (dump.regions.first(), dump.regions.last()) {
        parts.push(Part {
            shade: Shade::Code,
            name: plural(dump.regions.len() as u64, "region"),
            bytes: last.start + last.bytes - first.start,
            start: Some(first.start),
        });
    }
    parts.sort_by_key(|part| part.start);
    let (start, end) = (dump.window.start, dump.window.end);
    let mut whole = Vec::new();
    let mut at = start;
    let gap = |at: u64, to: u64| Part {
        shade: Shade::Reserved,
        name: "nothing".into(),
        bytes: to - at,
        start: Some(at),
    };
    for part in parts {
        let first = part.start.unwrap_or(at);
        if first > at {
            whole.push(gap(at, first));
        }
        at = first + part.bytes;
        whole.push(part);
    }
    if end > at {
        whole.push(gap(at, end));
    }
    let title = format!("Window  {start:#x} to {end:#x}, {} (not to scale)", bytes(end - start));
    Strip { title, parts: whole }
}

fn chapter_of_pool(dump: &Dump, pool: &Pool) -> Chapter {
    // There may be several pools of a kind.
    let slab = pool.base..pool.base + pool.slots * pool.stride;
    let is_here = |slot: &&Slot| slot.kind == pool.kind && slab.contains(&slot.base);
    let slots: Vec<&Slot> = dump.slots.iter().filter(is_here).collect();
    let row = |slot: &&Slot| {
        let mut spans = vec![(Shade::Accessible, slot.accessible)];
        if slot.resident > slot.accessible {
            spans.push((Shade::Kept, slot.resident));
        }
        spans.push((Shade::Reserved, pool.reservation));
        let note = match (slot.used, slot.resident) {
            (true, _) => bytes(slot.accessible),
            (false, 0) => "free".into(),
            (false, resident) => format!("free, keeps {}", bytes(resident)),
        };
        Row {
            name: slot.number.to_string(),
            address: slot.base,
            guarded_before: slot.number > 0 || pool.guard_before > 0,
            spans,
            note,
        }
    };
    let unused = pool.slots - (slots.len() as u64).min(pool.slots);
    let more = slots.len().saturating_sub(ROWS);
    let mut rest = Vec::new();
    if more > 0 {
        rest.push(format!("{more} more that are or were in use"));
    }
    if unused > 0 {
        rest.push(format!("{unused} more, never used"));
    }
    let guard = pool.stride.saturating_sub(pool.reservation);
    Chapter {
        title: format!(
            "{}, {} and {} of guard each",
            plural(pool.slots, slot_name(pool.kind)),
            bytes(pool.reservation),
            bytes(guard)
        ),
        end: pool.reservation,
        rows: slots.iter().take(ROWS).map(row).collect(),
        rest: (!rest.is_empty()).then(|| rest.join("; ")),
    }
}

/// Code, and on demand everything else; nothing if there are none.
fn chapter_of_regions(dump: &Dump) -> Option<Chapter> {
    let row = |(number, region): (usize, &Region)| {
        let spans = [
            (Shade::Code, region.executable),
            (Shade::Accessible, region.accessible),
            (Shade::Kept, region.resident),
            (Shade::Reserved, region.bytes),
        ];
        let mut ends = 0;
        let spans = spans.into_iter().filter(|(_, end)| {
            let is_more = *end > ends;
            ends = ends.max(*end);
            is_more
        });
        let note = match (region.accessible, region.executable) {
            (0, _) => "nothing accessible".into(),
            (accessible, 0) => bytes(accessible),
            (accessible, code) => format!("{}, {} code", bytes(accessible), bytes(code)),
        };
        Row {
            name: number.to_string(),
            address: region.start,
            guarded_before: false,
            spans: spans.collect(),
            note,
        }
    };
    let more = dump.regions.len().saturating_sub(ROWS);
    Some(Chapter {
        title: format!("{}: how much of each, not where", plural(dump.regions.len() as u64, "region")),
        end: dump.regions.iter().map(|region| region.bytes).max()?,
        rows: dump.regions.iter().enumerate().take(ROWS).map(row).collect(),
        rest: (more > 0).then(|| format!("{more} more")),
    })
}

/// What every frame of the arena is for.
fn arena(dump: &Dump) -> Strip {
    let arena = &dump.arena;
    let slot_tables: u64 = dump.pools.iter().map(|pool| pool.slots * pool.tables).sum();
    let slot_tables = slot_tables.min(arena.overhead);
    let in_slots: u64 = dump.slots.iter().map(|slot| slot.accessible).sum();
    let in_regions: u64 = dump.regions.iter().map(|region| region.resident).sum();
    let used = arena.frames.saturating_sub(arena.available) * FRAME;
    // Either all slots own their frames or none does.
    let owned = arena.own * FRAME;
    let (of_slots, kept) = if owned > 0 {
        (in_slots.min(owned), owned.saturating_sub(in_slots))
    } else {
        (in_slots.min(used), arena.idle * FRAME)
    };
    let taken = if owned > 0 { 0 } else { of_slots };
    let part = |shade, name: &str, bytes| Part { shade, name: name.into(), bytes, start: None };
    let parts = [
        part(Shade::Records, "records and upper tables", arena.overhead - slot_tables),
        part(Shade::Tables, "slots' leaf tables, from boot", slot_tables),
        part(Shade::Accessible, "contents of slots", of_slots),
        part(Shade::Code, "contents of regions", in_regions.min(used)),
        part(Shade::Tables, "tables that came with use", used.saturating_sub(taken + in_regions)),
        part(Shade::Kept, "kept by slots that do not use them", kept),
        part(Shade::Free, "free", arena.available.saturating_sub(arena.idle) * FRAME),
    ];
    let (start, end) = (arena.start, arena.end);
    Strip {
        title: format!("Arena  {start:#x} to {end:#x}, {}", bytes(end - start)),
        parts: parts.into_iter().filter(|part| part.bytes > 0).collect(),
    }
}

fn slot_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Memory => "memory slot",
        Kind::Table => "table slot",
        Kind::Stack => "stack slot",
    }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
