//! Which pages a module's instances write.

use heapless::Vec;

/// Runs of 64 pages of which pages are noted, at most.
const MOST_CHUNKS: usize = 32;
const CHUNK: usize = u64::BITS as usize;

/// Pages of a memory, by number: up to 64 in each of up to 32 runs of 64. What
/// does not fit is not noted: its first write faults again.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkingSet {
    chunks: Vec<(u32, u64), MOST_CHUNKS>,
}

impl WorkingSet {
    /// Notes a page. Whether it is new.
    pub(crate) fn add(&mut self, page: usize) -> bool {
        let Ok(number) = u32::try_from(page / CHUNK) else { return false };
        let bit = 1 << (page % CHUNK);
        match self.chunks.iter_mut().find(|chunk| chunk.0 == number) {
            Some(chunk) => {
                let new = chunk.1 & bit == 0;
                chunk.1 |= bit;
                new
            }
            None => self.chunks.push((number, bit)).is_ok(),
        }
    }

    /// Notes a page no longer. Whether it was.
    pub(crate) fn remove(&mut self, page: usize) -> bool {
        let Some(at) = self.chunks.iter().position(|chunk| chunk.0 as usize == page / CHUNK) else {
            return false;
        };
        let bit = 1 << (page % CHUNK);
        let was = self.chunks[at].1 & bit != 0;
        self.chunks[at].1 &= !bit;
        if self.chunks[at].1 == 0 {
            self.chunks.swap_remove(at);
        }
        was
    }

    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// The pages, in no order.
    pub(crate) fn pages(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunks.iter().flat_map(|&(number, bits)| {
            let first = number as usize * CHUNK;
            (0..CHUNK).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| first + bit)
        })
    }
}
