//! Typed addresses and page arithmetic. Everything is 4 KiB host pages: both
//! architectures are used with that granule.

use core::fmt;

/// Bytes in a host page.
pub const PAGE_SIZE: usize = 4096;
/// Entries in a table of any level: 512 on both architectures.
pub const ENTRIES_PER_TABLE: usize = 512;
/// Bytes of address space under one leaf table: 2 MiB.
pub const TABLE_SPAN: usize = PAGE_SIZE * ENTRIES_PER_TABLE;

/// Rounds `bytes` down to a multiple of the host page.
#[must_use]
pub const fn page_floor(bytes: usize) -> usize {
    bytes & !(PAGE_SIZE - 1)
}

/// Rounds `bytes` up to a multiple of the host page, or `None` if that does
/// not fit a `usize`.
#[must_use]
pub const fn page_ceil(bytes: usize) -> Option<usize> {
    match bytes.checked_add(PAGE_SIZE - 1) {
        Some(sum) => Some(page_floor(sum)),
        None => None,
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` above this one. Wraps, as address
            /// arithmetic on the machine does; ranges are validated where
            /// they enter the crate.
            #[must_use]
            pub const fn offset(self, bytes: usize) -> Self {
                Self(self.0.wrapping_add(bytes as u64))
            }

            /// Whether the address is a multiple of `alignment`, a power of two.
            #[must_use]
            pub const fn is_aligned(self, alignment: usize) -> bool {
                self.0 & (alignment as u64 - 1) == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A physical address: what entries hold and the embedder's memory map names.
    PhysAddr
}
address! {
    /// A virtual address of the window or of the embedder's kernel.
    VirtAddr
}

/// A run of virtual pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Address of the first page, page-aligned.
    pub start: VirtAddr,
    /// How many pages.
    pub count: usize,
}

impl Pages {
    /// The pages one after another.
    pub fn iter(self) -> impl Iterator<Item = VirtAddr> {
        (0..self.count).map(move |page| self.start.offset(page * PAGE_SIZE))
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_SIZE, page_ceil, page_floor};

    #[test]
    fn rounding_meets_at_page_multiples_and_refuses_overflow() {
        assert_eq!(page_ceil(0), Some(0));
        assert_eq!(page_ceil(1), Some(PAGE_SIZE));
        assert_eq!(page_ceil(PAGE_SIZE), Some(PAGE_SIZE));
        assert_eq!(page_floor(PAGE_SIZE + 1), PAGE_SIZE);
        assert_eq!(page_ceil(usize::MAX), None);
        assert_eq!(page_ceil(usize::MAX - PAGE_SIZE + 1), Some(usize::MAX - PAGE_SIZE + 1));
    }
}
