//! Images that come and go while tenants show them.

use allotment::{CompiledModuleId, Error, MemoryImage};

use crate::{
    common::{Machine, PAGE, TestArch},
    contents::{Contents, WORDS},
    random::Random,
};

/// One handle of an image, and what it shows.
pub(crate) struct Shown<'a, A: TestArch> {
    pub(crate) image: MemoryImage<'a, A>,
    pub(crate) contents: Contents,
}

impl<A: TestArch> Clone for Shown<'_, A> {
    fn clone(&self) -> Self {
        Self { image: self.image.clone(), contents: self.contents }
    }
}

impl<'a, A: TestArch> Shown<'a, A> {
    /// An image for memories of at most so many pages.
    pub(crate) fn build(
        machine: &'a Machine<A>,
        random: &mut Random,
        seed: u64,
        most: usize,
    ) -> Result<Self, Error> {
        let pages = match random.below(8) {
            0 => 0,
            1 => 1,
            2 => 512 + random.below(300),
            3 => random.below(200),
            _ => 1 + random.below(30),
        };
        let first = match random.below(5) {
            0 | 1 => 0,
            2 => random.below(20),
            // Over the border between two tables.
            3 => 512usize.saturating_sub(random.below(pages + 1)),
            _ => random.below(most),
        };
        let first = first.min(most - 1);
        let contents = Contents { seed, first, end: (first + pages).min(most) };
        let image = machine.allocator.build_image(
            first * PAGE,
            contents.pages().len() * PAGE,
            |offset, bytes: &mut [u8; PAGE]| {
                for at in 0..WORDS {
                    let word = contents.word(offset / PAGE, at).to_ne_bytes();
                    bytes[8 * at..8 * at + 8].copy_from_slice(&word);
                }
            },
        )?;
        if random.percent(15) {
            image.learns(false);
        }
        if random.percent(15) {
            // Also such as no memory will have.
            image.expect_writes((0..20).map(|_| random.below(most + 9) * PAGE));
        }
        Ok(Self { image, contents })
    }

    /// The module that it is of.
    pub(crate) fn module(&self) -> CompiledModuleId {
        CompiledModuleId(self.contents.seed)
    }
}
