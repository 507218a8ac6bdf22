//! The machine, the window, the arena and the configuration of a sequence.

use core::ops::Range;

use allotment::{
    Allocator, Backing, CarveError, Commit, Config, InstanceAllocationStrategy, PoolingAllocationConfig,
    arch::{
        Arch, PhysAddr, VirtAddr,
        emulated::{Emulated, Mmu},
        x86_64::invalidate::Method,
    },
};
use arbitrary::{Arbitrary, Result, Unstructured};

use crate::amount::PAGE;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// A machine and what is carved from it.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Setup {
    machine: Machine,
    cpus: u8,
    /// Of what the machine chooses.
    seed: u16,
    /// Walks that nobody asked for, per call.
    speculation: u8,
    lower_half: bool,
    /// Frames for contents.
    frames: u8,
    strategy: Strategy,
    /// How memories on demand grow.
    may_move: bool,
    reservation_for_growth: u16,
    pool: Pool,
    /// Address space for regions, or seldom none.
    regions: u8,
    /// Every tenant is looked at after so many steps; 0 for once, in the end.
    watch: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Machine {
    X86_64 { five_levels: bool, invpcid: bool },
    Aarch64 { hardware_dirty: bool, ranges: bool },
}

/// [`InstanceAllocationStrategy`]: most of what there is is the pools'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    OnDemand,
    Pooling,
}

impl<'a> Arbitrary<'a> for Strategy {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(if bytes.ratio(1, 4)? { Self::OnDemand } else { Self::Pooling })
    }
}

/// The pool of memories.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Pool {
    slots: u8,
    size: PoolSize,
    reservation: Reservation,
    guard: Guard,
    guard_before: bool,
    share: Share,
    keep_resident: u16,
    decommit_batch_size: u8,
    max_unused_warm_slots: u8,
    poison: bool,
    tables: u8,
    table_elements: u16,
    stacks: u8,
    stack_size: u8,
    stack_zeroing: bool,
    gc_heaps: u8,
}

/// [`Backing`], as the fuzzer chooses it.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Share {
    Auto,
    Fixed,
    Strict,
    PerInstance(u8),
}

/// The most that a memory may have.
#[derive(Clone, Copy, Debug)]
enum PoolSize {
    Pages(u8),
    Bytes(u16),
    /// A little less or more than a leaf table holds.
    AboutATable(u8),
}

impl<'a> Arbitrary<'a> for PoolSize {
    /// Seldom large: then everything takes much longer.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match bytes.int_in_range(0..=11)? {
            0..=7 => Self::Pages(bytes.arbitrary()?),
            8..=10 => Self::Bytes(bytes.arbitrary()?),
            _ => Self::AboutATable(bytes.arbitrary()?),
        })
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Reservation {
    /// What a memory may have, and no more.
    Tight,
    AndBytes(u32),
    FourGib,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Guard {
    None,
    Bytes(u16),
    Granule,
    Usual,
}

impl Setup {
    pub(crate) fn is_x86_64(&self) -> bool {
        matches!(self.machine, Machine::X86_64 { .. })
    }

    pub(crate) fn on_demand(&self) -> bool {
        self.strategy == Strategy::OnDemand
    }

    pub(crate) fn cpus(&self) -> usize {
        1 + usize::from(self.cpus) % 4
    }

    /// Every tenant is looked at after so many steps.
    pub(crate) fn watch(&self) -> Option<usize> {
        (self.watch > 0).then_some(usize::from(self.watch) % 16 + 1)
    }

    pub(crate) fn config(&self) -> Config {
        let Pool { slots, size, reservation, guard_before, .. } = self.pool;
        let max_memory_size = match size {
            PoolSize::Pages(pages) => usize::from(pages) % 20 * PAGE,
            PoolSize::Bytes(bytes) => bytes.into(),
            PoolSize::AboutATable(pages) => (505 + usize::from(pages) % 16) * PAGE,
        };
        let memory_reservation = match reservation {
            Reservation::Tight => max_memory_size,
            Reservation::AndBytes(more) => max_memory_size + more as usize % (8 * MIB),
            // Regions have 1 GiB.
            Reservation::FourGib if self.on_demand() => 64 * MIB,
            Reservation::FourGib => 4 * GIB,
        };
        let pooling = PoolingAllocationConfig::new()
            .total_memories(usize::from(slots) % 7)
            .max_memory_size(max_memory_size)
            .linear_memory_keep_resident(self.keep_resident())
            .table_keep_resident(self.keep_resident())
            .async_stack_keep_resident(self.keep_resident())
            .decommit_batch_size(usize::from(self.pool.decommit_batch_size) % 5)
            .max_unused_warm_slots(u32::from(self.pool.max_unused_warm_slots) % 8)
            .poison(self.pool.poison)
            .total_tables(usize::from(self.pool.tables) % 4)
            .table_elements(self.table_elements())
            .total_stacks(usize::from(self.pool.stacks) % 4)
            .total_gc_heaps(usize::from(self.pool.gc_heaps) % 4)
            .backing(match self.pool.share {
                Share::Auto => Backing::Auto,
                Share::Fixed => Backing::Fixed,
                Share::Strict => Backing::Elastic(Commit::Strict),
                Share::PerInstance(pages) => Backing::Elastic(Commit::PerInstance(usize::from(pages) % 16)),
            });
        let stack = self.stack_bytes();
        Config::new()
            .memory_reservation(memory_reservation)
            .memory_guard_size(self.memory_guard_size())
            .gc_heap_reservation(memory_reservation)
            .gc_heap_guard_size(self.memory_guard_size())
            .guard_before_linear_memory(guard_before)
            .max_wasm_stack(stack)
            .async_stack_size(stack)
            .async_stack_zeroing(self.pool.stack_zeroing)
            .region_space(self.region_space())
            .memory_may_move(self.may_move)
            .gc_heap_may_move(self.may_move)
            .memory_reservation_for_growth(self.reservation_for_growth.into())
            .gc_heap_reservation_for_growth(self.reservation_for_growth.into())
            .allocation_strategy(if self.on_demand() {
                InstanceAllocationStrategy::OnDemand
            } else {
                pooling.into()
            })
    }

    pub(crate) fn table_elements(&self) -> usize {
        usize::from(self.pool.table_elements) % 4000
    }

    pub(crate) fn stack_bytes(&self) -> usize {
        (1 + usize::from(self.pool.stack_size) % 8) * PAGE
    }

    pub(crate) fn stack_zeroing(&self) -> bool {
        self.pool.stack_zeroing
    }

    /// Everything, or so many bytes.
    fn keep_resident(&self) -> usize {
        let bytes = usize::from(self.pool.keep_resident);
        if bytes.is_multiple_of(4) { usize::MAX } else { bytes }
    }

    pub(crate) fn memory_guard_size(&self) -> usize {
        match self.pool.guard {
            Guard::None => 0,
            Guard::Bytes(bytes) => bytes.into(),
            Guard::Granule => 2 * MIB,
            Guard::Usual => 32 * MIB,
        }
    }

    pub(crate) fn guard_before(&self) -> bool {
        self.pool.guard_before
    }

    pub(crate) fn region_space(&self) -> usize {
        if self.regions > 20 { GIB } else { 0 }
    }

    /// Frames that the arena has beside its tables and records, or nearly.
    fn frames(&self) -> usize {
        let frames = usize::from(self.frames) % 100;
        // Else no memory ever reaches a second table.
        if let PoolSize::AboutATable(_) = self.pool.size { 500 + 3 * frames } else { frames }
    }

    /// The allocator, in an arena that holds what it must and these frames.
    /// `None` if nothing can be carved, and that is said by name.
    pub(crate) fn allocator<F: Mmu>(&self) -> Option<Allocator<Emulated<F>>> {
        let config = self.config();
        // By asking: how much is needed is the carve's business.
        let needed = match self.carve::<F>(&config, PAGE) {
            Err(CarveError::ArenaTooSmall { needed, .. }) => usize::try_from(needed).ok()?,
            Err(error) => return refused(&error),
            Ok(allocator) => return Some(allocator),
        };
        match self.carve(&config, needed.next_multiple_of(PAGE) + self.frames() * PAGE) {
            // The arena's frames are numbered, which takes frames.
            Err(CarveError::ArenaTooSmall { .. }) => None,
            Err(error) => refused(&error),
            Ok(allocator) => Some(allocator),
        }
    }

    fn carve<F: Mmu>(
        &self,
        config: &Config,
        arena: usize,
    ) -> core::result::Result<Allocator<Emulated<F>>, CarveError> {
        let machine = self.machine::<F>(arena + 2 * PAGE);
        let (window, arena) = (self.window(), machine.free_memory());
        machine.guard_window(window.clone());
        litter(&machine, &arena);
        // SAFETY: machine, window and arena are nobody else's.
        unsafe { Allocator::new(machine, window, arena, config) }
    }

    fn machine<F: Mmu>(&self, bytes: usize) -> Emulated<F> {
        let machine = Emulated::new(bytes)
            .with_cpus(self.cpus())
            .with_seed(self.seed.into())
            .with_speculation((self.speculation % 8).into());
        match self.machine {
            Machine::X86_64 { five_levels, invpcid } => {
                let machine =
                    if invpcid { machine.with_method(Method::Invpcid { pcid: 5 }) } else { machine };
                machine.with_levels(if five_levels { 5 } else { 4 })
            }
            Machine::Aarch64 { hardware_dirty, ranges } => {
                let machine = machine.with_ranges(ranges);
                if hardware_dirty { machine } else { machine.without_hardware_dirty() }
            }
        }
    }

    fn window(&self) -> Range<VirtAddr> {
        let five_levels = matches!(self.machine, Machine::X86_64 { five_levels: true, .. });
        let start = match (self.lower_half, five_levels) {
            (true, false) => 0x1000_0000_0000,
            (false, false) => 0xffff_9000_0000_0000,
            // Not canonical with 4 levels.
            (true, true) => 0x0020_0000_0000_0000,
            (false, true) => 0xff20_0000_0000_0000,
        };
        VirtAddr(start)..VirtAddr(start + (1 << 42))
    }
}

/// What is refused says so in words.
fn refused<T>(error: &CarveError) -> Option<T> {
    assert!(!error.to_string().is_empty());
    None
}

/// Fills an arena-to-be with what firmware or an earlier owner may leave there.
fn litter<F: Mmu>(machine: &Emulated<F>, arena: &Range<PhysAddr>) {
    for page in (arena.start.0..arena.end.0).step_by(PAGE) {
        // SAFETY: the machine is ours, and nothing uses its arena yet.
        unsafe { machine.physical(PhysAddr(page)).write_bytes(0xa5, PAGE) };
    }
}
