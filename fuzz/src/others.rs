//! Tenants that are tables and fiber stacks: bytes in a slot of their pool.

use allotment::{
    Backing, Error, FaultAccess, FaultRegion, FaultReport, FiberStack, PoolKind, Table, TableRequest,
    arch::{
        VirtAddr,
        emulated::{Emulated, Mmu, on_cpu},
    },
};
use arbitrary::Arbitrary;

use crate::{
    amount::{Amount, PAGE, Place},
    contents::Contents,
    ground::Ground,
    input::Access,
    tally::Event,
};

#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum OnOthers {
    /// So many bytes of elements of so many.
    AllocateTable(Amount, ElementSize),
    AllocateStack,
    Live(u8, OnOther),
    LiveToo(u8, OnOther),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum ElementSize {
    Four,
    Eight,
    Sixteen,
    Odd(u8),
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum OnOther {
    /// A table, to so many bytes.
    Grow(Amount),
    Store(Place),
    Load(Place),
    Fetch(Place),
    /// So many bytes after a table, or before a stack.
    Outside(u64, Access),
    Deallocate,
}

/// All tables and stacks.
pub(crate) struct Others<'a, F: Mmu> {
    live: Vec<Tenant<'a, F>>,
    /// Bytes of a table, of its slot, and from slot to slot.
    table_bytes: usize,
    table_limit: usize,
    table_stride: usize,
    tables: usize,
    stack_bytes: usize,
    stacks: usize,
    /// Whether stacks begin with zeros.
    zeroing: bool,
    fixed: bool,
}

enum Holder<'a, F: Mmu> {
    Table(Table<'a, Emulated<F>>),
    Stack(FiberStack<'a, Emulated<F>>),
}

struct Tenant<'a, F: Mmu> {
    holder: Holder<'a, F>,
    start: VirtAddr,
    contents: Contents,
    /// The one that allocated it: nothing says that another may use it.
    cpu: usize,
    paid: usize,
}

impl<'a, F: Mmu> Others<'a, F> {
    pub(crate) fn new(
        ground: &Ground<'a, F>,
        table_elements: usize,
        stack_bytes: usize,
        zeroing: bool,
    ) -> Self {
        let plan = ground.allocator.plan();
        Self {
            live: Vec::new(),
            table_bytes: table_elements * 8,
            table_limit: plan.tables.slab.max_memory_size,
            table_stride: plan.tables.slab.stride,
            tables: plan.tables.slab.total_memories,
            stack_bytes,
            stacks: plan.stacks.slab.total_memories,
            zeroing,
            fixed: plan.backing == Backing::Fixed,
        }
    }

    pub(crate) fn step(&mut self, ground: &mut Ground<'a, F>, operation: &OnOthers, cpu: usize) {
        match operation {
            OnOthers::AllocateTable(bytes, element) => {
                self.allocate_table(ground, bytes.of(self.table_bytes), element.bytes(), cpu);
            }
            OnOthers::AllocateStack => self.allocate_stack(ground, cpu),
            OnOthers::Live(nth, operation) | OnOthers::LiveToo(nth, operation) if !self.live.is_empty() => {
                let nth = usize::from(*nth) % self.live.len();
                let cpu = self.live[nth].cpu;
                on_cpu(cpu, || self.on_live(ground, nth, operation));
            }
            OnOthers::Live(..) | OnOthers::LiveToo(..) => {}
        }
    }

    /// Tables, and stacks.
    pub(crate) fn len(&self) -> (usize, usize) {
        let tables = self.live.iter().filter(|tenant| tenant.is_table()).count();
        (tables, self.live.len() - tables)
    }

    /// Whether this access is some tenant's right.
    pub(crate) fn allows(&self, address: VirtAddr, access: FaultAccess) -> bool {
        let holds = |tenant: &Tenant<'_, F>| {
            let offset = address.0.wrapping_sub(tenant.start.0);
            usize::try_from(offset).is_ok_and(|offset| offset < tenant.contents.bytes())
        };
        access != FaultAccess::Execute && self.live.iter().any(holds)
    }

    /// Looks at the bytes of all.
    pub(crate) fn inspect(&self, ground: &Ground<'a, F>) {
        for tenant in &self.live {
            on_cpu(tenant.cpu, || {
                for page in 0..tenant.contents.pages() {
                    ground.inspect(tenant.start.offset(page * PAGE), tenant.contents.page(page));
                }
            });
        }
    }

    /// Gives the last one back; `false` if there is none.
    pub(crate) fn end_one(&mut self, ground: &mut Ground<'a, F>) -> bool {
        let Some(last) = self.live.len().checked_sub(1) else { return false };
        self.deallocate(ground, last);
        true
    }

    fn allocate_table(&mut self, ground: &mut Ground<'a, F>, bytes: usize, element: usize, cpu: usize) {
        let elements = bytes / element;
        let limit = (self.table_limit / element).min(self.table_bytes / 8);
        let price = if self.fixed { 0 } else { (elements * element).div_ceil(PAGE) };
        match ground.allocator.allocate_table(TableRequest::new(elements).element_size(element)) {
            Ok(table) => {
                assert!(elements <= limit && self.len().0 < self.tables, "{table:?}");
                assert_eq!(
                    (table.size(), table.capacity(), table.element_size()),
                    (elements, limit, element)
                );
                let start = VirtAddr(table.base().as_ptr() as u64);
                self.settle(
                    ground,
                    Holder::Table(table),
                    start,
                    (elements * element).div_ceil(PAGE),
                    price,
                    cpu,
                );
            }
            Err(Error::TableTooLarge { requested, limit: most }) if elements > limit => {
                assert_eq!((requested, most), (elements, limit));
            }
            Err(Error::PoolConcurrencyLimit { kind: PoolKind::Tables, limit }) => {
                assert_eq!((self.len().0, limit), (self.tables, self.tables));
            }
            Err(Error::OutOfFrames { .. }) if price > ground.free || !ground.exact => {}
            other => panic!("{elements} elements of {element} bytes: {other:?}"),
        }
    }

    fn allocate_stack(&mut self, ground: &mut Ground<'a, F>, cpu: usize) {
        let pages = self.stack_bytes / PAGE;
        let price = if self.fixed { 0 } else { pages };
        match ground.allocator.allocate_fiber_stack() {
            Ok(stack) => {
                assert!(self.len().1 < self.stacks, "{stack:?}");
                assert_eq!(stack.stack().len(), self.stack_bytes);
                let start = VirtAddr(stack.stack().cast::<u8>().as_ptr() as u64);
                assert_eq!((stack.top(), stack.guard().end), (start.offset(self.stack_bytes), start));
                self.settle(ground, Holder::Stack(stack), start, pages, price, cpu);
            }
            Err(Error::PoolConcurrencyLimit { kind: PoolKind::Stacks, limit }) => {
                assert_eq!((self.len().1, limit), (self.stacks, self.stacks));
            }
            Err(Error::OutOfFrames { .. }) if price > ground.free || !ground.exact => {}
            other => panic!("{other:?}"),
        }
    }

    /// Takes a new tenant in.
    fn settle(
        &mut self,
        ground: &mut Ground<'a, F>,
        holder: Holder<'a, F>,
        start: VirtAddr,
        pages: usize,
        price: usize,
        cpu: usize,
    ) {
        assert!(self.live.iter().all(|other| other.start != start), "a slot has two tenants");
        ground.tally.note(Event::Other);
        let mut contents = Contents::new(pages);
        if matches!(holder, Holder::Stack(_)) && !self.zeroing {
            // It begins with whatever its last user left.
            for page in 0..pages {
                contents.set(page, ground.page(start.offset(page * PAGE)));
            }
        }
        self.live.push(Tenant { holder, start, contents, cpu, paid: ground.paid(price) });
    }

    fn on_live(&mut self, ground: &mut Ground<'a, F>, nth: usize, operation: &OnOther) {
        let Self { table_bytes, table_stride, fixed, .. } = *self;
        let tenant = &mut self.live[nth];
        let (start, bytes) = (tenant.start, tenant.contents.bytes());
        match *operation {
            OnOther::Grow(to) => tenant.grow(ground, to.of(table_bytes), fixed),
            OnOther::Store(place) if bytes > 0 => {
                let (at, mark) = (place.of(bytes), ground.mark());
                assert_eq!(ground.store(start.offset(at), &[mark]), Ok(()));
                tenant.contents.store(at, mark);
            }
            OnOther::Load(place) if bytes > 0 => {
                let (at, mut byte) = (place.of(bytes), [0]);
                assert_eq!(ground.load(start.offset(at), &mut byte), Ok(()));
                assert_eq!(byte[0], tenant.contents.page(at / PAGE)[at % PAGE], "byte {at:#x}");
            }
            OnOther::Store(_) | OnOther::Load(_) => {}
            OnOther::Fetch(place) => {
                let _ = ground.refuse(start.offset(place.of(bytes)), FaultAccess::Execute);
            }
            OnOther::Outside(distance, access) => {
                let at = match &tenant.holder {
                    Holder::Table(_) => start.offset(bytes + below(distance, table_stride - bytes)),
                    Holder::Stack(stack) => {
                        let guard = stack.guard();
                        let len = usize::try_from(guard.end.0 - guard.start.0).unwrap_or(1);
                        assert!(len >= PAGE, "a stack has no guard");
                        guard.start.offset(below(distance, len))
                    }
                };
                let report = ground.refuse(at, access.into());
                tenant.reported(&report);
            }
            OnOther::Deallocate => self.deallocate(ground, nth),
        }
    }

    fn deallocate(&mut self, ground: &mut Ground<'a, F>, nth: usize) {
        let Tenant { holder, paid, .. } = self.live.swap_remove(nth);
        match holder {
            Holder::Table(table) => ground.allocator.deallocate_table(table),
            Holder::Stack(stack) => ground.allocator.deallocate_fiber_stack(stack),
        }
        ground.free += paid;
    }
}

impl<F: Mmu> Tenant<'_, F> {
    fn is_table(&self) -> bool {
        matches!(self.holder, Holder::Table(_))
    }

    fn grow(&mut self, ground: &mut Ground<'_, F>, bytes: usize, fixed: bool) {
        let Holder::Table(table) = &mut self.holder else { return };
        let (before, capacity, elements) = (table.size(), table.capacity(), bytes / table.element_size());
        let pages = (elements.max(before) * table.element_size()).div_ceil(PAGE);
        let more = pages - self.contents.pages();
        let price = if fixed { 0 } else { more };
        let done = table.grow_to(elements);
        assert_eq!(table.size(), if done.is_ok() { before.max(elements) } else { before });
        match done {
            Ok(()) if elements <= capacity => {
                self.contents.resize(pages);
                self.paid += ground.paid(price);
            }
            Err(Error::TableTooLarge { requested, limit }) if elements > capacity => {
                assert_eq!((requested, limit), (elements, capacity));
            }
            Err(Error::OutOfFrames { .. }) if price > ground.free || !ground.exact => {}
            other => panic!("to {elements} of {capacity} elements: {other:?}"),
        }
    }

    fn reported(&self, report: &FaultReport) {
        let expected = if self.is_table() { FaultRegion::Table(None) } else { FaultRegion::StackGuard };
        assert_eq!(report.region, expected, "{report}");
        let slot = report.slot.expect("it has a slot");
        assert_eq!((slot.generation % 2, slot.accessible), (1, self.contents.bytes()), "{report}");
        assert_eq!(
            report.offset,
            Some(report.address.0.wrapping_sub(self.start.0).cast_signed()),
            "{report}"
        );
    }
}

impl ElementSize {
    fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
            Self::Sixteen => 16,
            Self::Odd(bytes) => usize::from(bytes).max(1),
        }
    }
}

/// A number below `limit`.
fn below(number: u64, limit: usize) -> usize {
    usize::try_from(number % limit.max(1) as u64).unwrap_or(0)
}
