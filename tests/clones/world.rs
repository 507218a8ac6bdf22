//! Memories, and what they should show.

use alloc::{vec, vec::Vec};

use allotment::{Backing, Commit, Memory, MemoryImage, PoolingAllocationConfig};

use crate::common::{MIB, Machine, PAGE, TestArch, pool, pooled};

pub(crate) const BACKINGS: [Backing; 3] =
    [Backing::Fixed, Backing::Elastic(Commit::Strict), Backing::Elastic(Commit::PerInstance(1200))];

pub(crate) fn few() -> PoolingAllocationConfig {
    pool(4, 6 * MIB)
}

/// Each backing in turn; with tables from the arena, where there are such.
pub(crate) fn machines<A: TestArch>(mut test: impl FnMut(&Machine<A>)) {
    for backing in BACKINGS {
        let pools = few().backing(backing).linear_memory_keep_resident(MIB);
        test(&Machine::new(&pooled(pools), 64 * MIB));
        if backing != Backing::Fixed {
            let pools = pools.premapped_tables(1).linear_memory_keep_resident(0);
            test(&Machine::new(&pooled(pools), 64 * MIB));
        }
    }
}

/// What a memory or an image shows: for each page a byte, at a place of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown(pub(crate) Vec<u8>);

impl Shown {
    pub(crate) fn zeros(size: usize) -> Self {
        Self(vec![0; size.div_ceil(PAGE)])
    }

    pub(crate) fn write<A: TestArch>(
        &mut self,
        m: &Machine<A>,
        memory: &Memory<'_, A>,
        page: usize,
        byte: u8,
    ) {
        m.store(memory, place(page), byte).expect("it is within the memory");
        self.0[page] = byte;
    }

    pub(crate) fn grow<A: TestArch>(&mut self, memory: &mut Memory<'_, A>, size: usize) {
        memory.grow_to(size).expect("it fits its slot");
        self.0.resize(size.div_ceil(PAGE), 0);
    }

    #[track_caller]
    pub(crate) fn assert<A: TestArch>(&self, m: &Machine<A>, memory: &Memory<'_, A>) {
        assert_eq!(memory.size().div_ceil(PAGE), self.0.len());
        // Of pages that nobody wrote a few.
        let looked = |&(page, &byte): &(usize, &u8)| byte != 0 || page % 32 < 2;
        for (page, &byte) in self.0.iter().enumerate().filter(looked) {
            assert_eq!(m.load(memory, place(page)), Ok(byte), "page {page}");
            assert_eq!(m.load(memory, place(page) ^ 1), Ok(0), "page {page}");
        }
        m.load(memory, (self.0.len() * PAGE) as i64).expect_err("the memory does not end");
    }
}

pub(crate) fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// Where the byte of a page is, from the memory's first.
pub(crate) fn place(page: usize) -> i64 {
    (page * PAGE + page * 7 % PAGE) as i64
}

/// A memory that shows an image, and zeros behind it.
pub(crate) fn clone_of<'a, A: TestArch>(
    m: &'a Machine<A>,
    image: &MemoryImage<'a, A>,
    shown: &Shown,
    size: usize,
) -> (Memory<'a, A>, Shown) {
    let mut shown = shown.clone();
    shown.0.resize(size.div_ceil(PAGE), 0);
    (m.allocator.allocate_memory_from(image, size).expect("there is a slot"), shown)
}

/// Frames that nobody uses, and that are promised to nobody.
pub(crate) fn available<A: TestArch>(m: &Machine<A>) -> usize {
    m.allocator.metrics().available_frames
}

/// The same, and those that memories share, such as zeros.
pub(crate) fn unshared<A: TestArch>(m: &Machine<A>) -> usize {
    let metrics = m.allocator.metrics();
    metrics.available_frames + metrics.shared_frames
}
