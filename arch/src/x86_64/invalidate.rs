//! What an invalidation is in x86_64's instructions (SDM 3A, 4.10.4).
//!
//! | [`Method`] | what | runs where |
//! |---|---|---|
//! | `Invlpg` | `invlpg` a page, or a reload of CR3 | every CPU; the one in use |
//! | `Invpcid` | `invpcid`, for one process-context identifier | CPUs with INVPCID |
//! | `Invlpgb` | `invlpgb; tlbsync`, broadcast in hardware | AMD, Zen 3 and later |
//!
//! The last two are off: [`Native`](crate::Native) takes neither, since no
//! machine that its tests run on has them (QEMU 7.2 emulates neither). Their
//! operands are checked against the emulated MMU.
//!
//! `invlpg` of any address also drops every pointer to a table that the CPU
//! cached for the current identifier (4.10.4.1), so that nothing more is needed
//! for [`reaches_tables`](Invalidation::reaches_tables).

use crate::{Invalidation, Pages, Scope, VirtAddr};

/// The instructions, as the CPU runs them or the emulated MMU reads them.
pub trait Instructions {
    /// `invlpg`.
    fn invlpg(&self, page: VirtAddr);
    /// `mov cr3, cr3`: everything of the current identifier that is not global.
    fn reload_cr3(&self);
    /// `invpcid` of a type with its descriptor.
    fn invpcid(&self, kind: u64, descriptor: [u64; 2]);
    /// `invlpgb` with `rax`, `ecx` and `edx`.
    fn invlpgb(&self, rax: u64, ecx: u32, edx: u32);
    /// `tlbsync`: waits for what `invlpgb` began.
    fn tlbsync(&self);
}

/// Which instructions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `invlpg` and CR3.
    Invlpg,
    /// `invpcid` for this process-context identifier, 0 to 4095.
    Invpcid {
        /// The identifier.
        pcid: u16,
    },
    /// `invlpgb` for the host's address spaces, on all CPUs at once.
    Invlpgb {
        /// Most pages that one instruction takes: CPUID 8000_0008h EDX\[15:0\]
        /// plus 1.
        most: usize,
    },
}

/// Carries `what` out.
// So that what a CPU never does costs it nothing.
#[inline(always)]
pub fn invalidate<I: Instructions>(cpu: &I, method: Method, what: Invalidation) {
    match (method, what.scope()) {
        (_, Scope::Nothing) => {}
        (Method::Invlpg, Scope::Pages(pages)) => each(cpu, pages),
        (Method::Invlpg, Scope::Everything) => cpu.reload_cr3(),
        (Method::Invpcid { pcid }, Scope::Pages(pages)) => {
            pages.iter().for_each(|page| cpu.invpcid(INDIVIDUAL_ADDRESS, invpcid_descriptor(pcid, page)));
        }
        (Method::Invpcid { pcid }, Scope::Everything) => {
            cpu.invpcid(SINGLE_CONTEXT, invpcid_descriptor(pcid, VirtAddr(0)));
        }
        (Method::Invlpgb { most }, Scope::Pages(pages)) => {
            for part in parts(pages, most) {
                cpu.invlpgb(invlpgb_rax(part.start, !what.reaches_tables()), invlpgb_ecx(part.count), 0);
            }
            cpu.tlbsync();
        }
        (Method::Invlpgb { .. }, Scope::Everything) => {
            // Neither address nor identifier valid: all of the host's.
            cpu.invlpgb(0, 0, 0);
            cpu.tlbsync();
        }
    }
}

/// Page by page, by fours: a wasm page is sixteen.
#[inline(always)]
fn each<I: Instructions>(cpu: &I, pages: Pages) {
    let Pages { start: mut page, count: mut left } = pages;
    while left >= 4 {
        for nth in 0..4 {
            cpu.invlpg(page.offset(nth * crate::PAGE_SIZE));
        }
        page = page.offset(4 * crate::PAGE_SIZE);
        left -= 4;
    }
    Pages { start: page, count: left }.iter().for_each(|page| cpu.invlpg(page));
}

/// INVPCID type 0: one address of one identifier.
pub const INDIVIDUAL_ADDRESS: u64 = 0;
/// INVPCID type 1: one identifier.
pub const SINGLE_CONTEXT: u64 = 1;

/// INVPCID's descriptor: the identifier in bits \[11:0\], the address in the
/// second word (SDM 2A, INVPCID).
#[must_use]
pub const fn invpcid_descriptor(pcid: u16, address: VirtAddr) -> [u64; 2] {
    [pcid as u64 & 0xfff, address.0]
}

/// CR3 with a process-context identifier; `keep` sets bit 63, so that nothing
/// is invalidated (SDM 3A, 2.5 and 4.10.4.1).
#[must_use]
pub const fn cr3(root: crate::PhysAddr, pcid: u16, keep: bool) -> u64 {
    root.0 | pcid as u64 & 0xfff | (keep as u64) << 63
}

/// INVLPGB's `rax`: bit 0 says that the address is valid, bit 4 that only final
/// translations are meant (AMD APM 3, INVLPGB).
#[must_use]
pub const fn invlpgb_rax(start: VirtAddr, leaves_only: bool) -> u64 {
    start.0 & !0xfff | 1 | (leaves_only as u64) << 4
}

/// INVLPGB's `ecx`: pages beyond the first in bits \[15:0\], of 4 KiB.
#[must_use]
pub const fn invlpgb_ecx(pages: usize) -> u32 {
    let beyond = pages.saturating_sub(1) as u64;
    (beyond & 0xffff) as u32
}

fn parts(pages: Pages, most: usize) -> impl Iterator<Item = Pages> {
    let most = most.max(1);
    (0..pages.count).step_by(most).map(move |first| Pages {
        start: pages.start.offset(first * crate::PAGE_SIZE),
        count: most.min(pages.count - first),
    })
}

#[cfg(test)]
mod tests {
    use super::{cr3, invlpgb_ecx, invlpgb_rax, invpcid_descriptor, parts};
    use crate::{PAGE_SIZE, Pages, PhysAddr, VirtAddr};

    const PAGE: VirtAddr = VirtAddr(0xffff_9000_0040_3000);

    #[test]
    fn an_identifier_stays_in_its_twelve_bits() {
        let root = PhysAddr(0x0012_3456_7000);
        assert_eq!(cr3(root, 0, false), root.0);
        assert_eq!(cr3(root, 0xfff, false), root.0 | 0xfff);
        assert_eq!(cr3(root, 0xffff, false), root.0 | 0xfff, "the root is another one");
        assert_eq!(cr3(root, 5, true), root.0 | 5 | 1 << 63);
        assert_eq!(invpcid_descriptor(0xf005, PAGE), [5, PAGE.0], "reserved bits are set");
    }

    #[test]
    fn a_broadcast_names_pages_beyond_the_first() {
        assert_eq!(invlpgb_rax(PAGE.offset(7), true), PAGE.0 | 0b1_0001);
        assert_eq!(invlpgb_rax(PAGE, false), PAGE.0 | 1);
        assert_eq!((invlpgb_ecx(1), invlpgb_ecx(8)), (0, 7));
    }

    #[test]
    fn parts_cover_a_run_exactly() {
        for count in 0..20 {
            for most in 0..8 {
                let mut next = PAGE;
                for part in parts(Pages { start: PAGE, count }, most) {
                    assert!(part.start == next && (1..=most.max(1)).contains(&part.count));
                    next = next.offset(part.count * PAGE_SIZE);
                }
                assert_eq!(next, PAGE.offset(count * PAGE_SIZE), "{count} pages by {most}");
            }
        }
    }
}
