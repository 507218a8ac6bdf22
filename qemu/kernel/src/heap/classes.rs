//! Which sizes of blocks there are.
//!
//! Multiples of 16 up to 128, then four to each doubling up to 32 KiB, so that at most a fifth of a
//! block is wasted: 16, 32, .. 112, 128, 160, 192, 224, 256, 320, ...

use core::alloc::Layout;

/// What every block is aligned to.
pub(super) const ALIGN: usize = 16;

/// The largest size that has a class.
const LARGEST: usize = 32 * 1024;

/// Sizes up to here have a class for each multiple of 16.
const LINEAR: usize = 128;

/// Sizes up to here find their class by table.
const TABLED: usize = 1024;

/// How many classes there are.
pub(super) const COUNT: usize = general(LARGEST) + 1;

#[expect(clippy::cast_possible_truncation, reason = "there are fewer than 256 classes")]
static BY_SIZE: [u8; TABLED / ALIGN + 1] = {
    let mut table = [0; TABLED / ALIGN + 1];
    let mut index = 0;
    while index < table.len() {
        table[index] = general(if index == 0 { 1 } else { index * ALIGN }) as u8;
        index += 1;
    }
    table
};

/// The class for a layout; `None` if it is too large or too aligned for any.
#[inline]
pub(super) fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    if layout.align() > ALIGN {
        None
    } else if size <= TABLED {
        Some(BY_SIZE[size.div_ceil(ALIGN)] as usize)
    } else if size <= LARGEST {
        Some(general(size))
    } else {
        None
    }
}

/// The smallest class that holds `size` bytes, at least one.
const fn general(size: usize) -> usize {
    let last = size - 1;
    if last < LINEAR {
        return last / ALIGN;
    }
    // `last` is 1xx... in binary with the top bit at `doubling`; the two bits below say which quarter.
    let doubling = last.ilog2();
    let quarter = (last >> (doubling - 2)) & 3;
    LINEAR / ALIGN + (doubling - LINEAR.ilog2()) as usize * 4 + quarter
}

/// Bytes in a block of a class.
pub(super) const fn size_of_class(class: usize) -> usize {
    if class < LINEAR / ALIGN {
        return (class + 1) * ALIGN;
    }
    let above = class - LINEAR / ALIGN;
    let base = LINEAR << (above / 4);
    base + base / 4 * (above % 4 + 1)
}

// Every class holds what is sorted into it, and the one below would not.
const _: () = {
    let mut size = 1;
    while size <= 4096 {
        let class = general(size);
        assert!(size_of_class(class) >= size && class < COUNT);
        assert!(class == 0 || size_of_class(class - 1) < size);
        size += 1;
    }
    assert!(size_of_class(COUNT - 1) == LARGEST);
};
