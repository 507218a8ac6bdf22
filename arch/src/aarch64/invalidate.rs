//! What an invalidation is in aarch64's instructions (Arm ARM D8.16, D8.17).
//!
//! ```text
//!   dsb ish       the stores to the tables are seen by every walk, and what
//!                 was loaded before, such as an epoch, is of before
//!   tlbi ...      one page each, a range each, or everything
//!   dsb ish       all CPUs have forgotten, and no walk that began before
//!                 is still under way
//!   isb           neither has this CPU fetched ahead
//! ```
//!
//! Without the first a walk could cache the old entry again after the `tlbi`.
//! `dsb ishst` would do for that, but it waits for no load: a CPU that looks
//! which epoch it is, and then forgets, could forget first and look afterwards.
//! Without the third a frame or table could be used anew while a CPU still
//! walks to it.

use crate::{Invalidation, PAGE_SIZE, Pages, Scope, VirtAddr};

/// The instructions, as the CPU runs them or the emulated MMU reads them.
/// `shared` means the inner-shareable form, which every CPU obeys; the other
/// is for this CPU alone.
pub trait Instructions {
    /// `dsb ish`, before the first TLBI.
    fn dsb_before(&self);
    /// `tlbi vaae1(is)`, or `vaale1(is)` for `leaves_only`: all identifiers, one
    /// page.
    fn tlbi_page(&self, operand: u64, leaves_only: bool, shared: bool);
    /// `tlbi rvaae1(is)`, or `rvaale1(is)`: all identifiers, a range
    /// (FEAT_TLBIRANGE).
    fn tlbi_range(&self, operand: u64, leaves_only: bool, shared: bool);
    /// `tlbi vmalle1(is)`: everything of EL1.
    fn tlbi_all(&self, shared: bool);
    /// `dsb ish`, or `dsb nsh` if what came before was for this CPU alone.
    fn dsb_complete(&self, shared: bool);
    /// `isb`.
    fn isb(&self);
}

/// Carries `what` out. `ranges` says that the CPU has FEAT_TLBIRANGE.
// So that what a CPU never does costs it nothing.
#[inline(always)]
pub fn invalidate<I: Instructions>(cpu: &I, ranges: bool, what: Invalidation, shared: bool) {
    let leaves_only = !what.reaches_tables();
    match what.scope() {
        Scope::Nothing => return,
        Scope::Pages(pages) if ranges => {
            cpu.dsb_before();
            for_each_range(
                pages,
                |operand| cpu.tlbi_range(operand, leaves_only, shared),
                |page| {
                    cpu.tlbi_page(page_operand(page), leaves_only, shared);
                },
            );
        }
        Scope::Pages(pages) => {
            cpu.dsb_before();
            pages.iter().for_each(|page| cpu.tlbi_page(page_operand(page), leaves_only, shared));
        }
        Scope::Everything => {
            cpu.dsb_before();
            cpu.tlbi_all(shared);
        }
    }
    cpu.dsb_complete(shared);
    cpu.isb();
}

/// TLBI takes the page number in bits \[43:0\]. Above are TTL and ASID, which
/// the sign extension of an upper-half address must not reach: the CPU would
/// take it for a level, and may then do nothing (D8.17.5).
const PAGE_NUMBER: u64 = (1 << 44) - 1;

/// The operand of `tlbi vaae1(is)` and its like.
#[must_use]
pub const fn page_operand(page: VirtAddr) -> u64 {
    page.0 >> 12 & PAGE_NUMBER
}

/// The operand of `tlbi rvaae1(is)` for `(num + 1) << (5 * scale + 1)` pages of
/// 4 KiB: BaseADDR in bits \[36:0\], NUM in \[43:39\], SCALE in \[45:44\], TG in
/// \[47:46\] (0b01 is 4 KiB).
#[must_use]
pub const fn range_operand(start: VirtAddr, num: u64, scale: u64) -> u64 {
    const BASE: u64 = (1 << 37) - 1;
    const GRANULE_4K: u64 = 0b01 << 46;
    start.0 >> 12 & BASE | (num & 0x1f) << 39 | (scale & 0b11) << 44 | GRANULE_4K
}

/// Cuts a run into ranges, the small ones first, and at most one single page.
fn for_each_range(pages: Pages, mut range: impl FnMut(u64), mut single: impl FnMut(VirtAddr)) {
    let Pages { mut start, mut count } = pages;
    if count % 2 == 1 {
        single(start);
        start = start.offset(PAGE_SIZE);
        count -= 1;
    }
    // NUM counts 1 to 32 units of 2, 64, 2,048 and 65,536 pages.
    for scale in 0..4 {
        let shift = 5 * scale + 1;
        let units = (count >> shift) & 0x1f;
        let units = if scale == 3 { count >> shift } else { units };
        if units > 0 {
            range(range_operand(start, units as u64 - 1, scale));
            start = start.offset((units << shift) * PAGE_SIZE);
            count -= units << shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_NUMBER, for_each_range, page_operand, range_operand};
    use crate::{PAGE_SIZE, Pages, VirtAddr};

    const UPPER: VirtAddr = VirtAddr(0xffff_9000_0040_3000);

    #[test]
    fn the_sign_extension_reaches_neither_level_nor_identifier() {
        assert_eq!(page_operand(UPPER) & !PAGE_NUMBER, 0);
        assert_eq!(page_operand(UPPER), 0x0ff9_0000_0403);
        assert_eq!(range_operand(UPPER, 0, 0) >> 37 & 0b11, 0, "the level hint is set");
        assert_eq!(range_operand(UPPER, 0, 0) >> 48, 0, "the identifier is set");
    }

    #[test]
    fn ranges_cover_a_run_exactly() {
        for count in 1..3000 {
            let mut next = UPPER;
            // A closure for each kind would borrow `next` twice.
            let seen = core::cell::RefCell::new(&mut next);
            for_each_range(
                Pages { start: UPPER, count },
                |operand| {
                    let mut next = seen.borrow_mut();
                    let num = operand >> 39 & 0x1f;
                    let scale = operand >> 44 & 0b11;
                    assert_eq!(operand & ((1 << 37) - 1), next.0 >> 12 & ((1 << 37) - 1));
                    let pages = usize::try_from((num + 1) << (5 * scale + 1)).unwrap();
                    **next = next.offset(pages * PAGE_SIZE);
                },
                |page| {
                    let mut next = seen.borrow_mut();
                    assert_eq!(page, **next);
                    **next = next.offset(PAGE_SIZE);
                },
            );
            assert_eq!(next, UPPER.offset(count * PAGE_SIZE), "{count} pages");
        }
    }
}
