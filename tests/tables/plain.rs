//! Tables as plain lists: what each operation does to them, in wasm's words.

use alloc::{vec, vec::Vec};

/// A function by a number, or null.
pub(crate) type Cell = Option<u32>;

/// More than any table in a test can have.
const MOST: usize = 1 << 20;

/// A table, and how far it may grow.
#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) cells: Vec<Cell>,
    pub(crate) maximum: Option<usize>,
}

/// Tables, and segments that are not dropped yet.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) tables: Vec<Plain>,
    pub(crate) segments: Vec<Vec<Cell>>,
}

/// An operation by its numbers. Tables and segments exist, indices may not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Get { table: usize, at: u64 },
    Set { table: usize, at: u64, cell: Cell },
    Fill { table: usize, at: u64, cell: Cell, len: u64 },
    Copy { to_table: usize, to: u64, from_table: usize, from: u64, len: u64 },
    Init { table: usize, segment: usize, to: u64, from: u64, len: u64 },
    Drop { segment: usize },
    Grow { table: usize, delta: u64, cell: Cell },
}

/// What an operation says: nothing, an element, or a size or -1. `None` is a trap.
pub(crate) type Outcome = Option<Said>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    Element(Cell),
    Size(Option<u64>),
}

impl World {
    pub(crate) fn step(&mut self, step: Step) -> Outcome {
        match step {
            Step::Get { table, at } => {
                let cell = self.tables[table].cells.get(usize::try_from(at).ok()?)?;
                return Some(Said::Element(*cell));
            }
            Step::Set { table, at, cell } => *self.part(table, at, 1)?.first_mut()? = cell,
            Step::Fill { table, at, cell, len } => self.part(table, at, len)?.fill(cell),
            Step::Copy { to_table, to, from_table, from, len } => {
                let cells = self.part(from_table, from, len)?.to_vec();
                self.part(to_table, to, len)?.copy_from_slice(&cells);
            }
            Step::Init { table, segment, to, from, len } => {
                let cells = part(&mut self.segments[segment], from, len)?.to_vec();
                self.part(table, to, len)?.copy_from_slice(&cells);
            }
            Step::Drop { segment } => self.segments[segment] = vec![],
            Step::Grow { table, delta, cell } => {
                let Plain { cells, maximum } = &mut self.tables[table];
                let before = cells.len();
                let after = usize::try_from(delta).ok().and_then(|delta| before.checked_add(delta));
                let fits = after.filter(|&after| after <= maximum.unwrap_or(MOST));
                if let Some(after) = fits {
                    cells.resize(after, cell);
                }
                return Some(Said::Size(fits.map(|_| before as u64)));
            }
        }
        Some(Said::Nothing)
    }

    fn part(&mut self, table: usize, start: u64, len: u64) -> Option<&mut [Cell]> {
        part(&mut self.tables[table].cells, start, len)
    }
}

fn part(cells: &mut [Cell], start: u64, len: u64) -> Option<&mut [Cell]> {
    let end = usize::try_from(start.checked_add(len)?).ok()?;
    cells.get_mut(usize::try_from(start).ok()?..end)
}
