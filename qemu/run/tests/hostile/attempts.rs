//! Which addresses a hostile guest tries, and what must come of each.

use alloc::{string::String, vec::Vec};

use wasmtime::Trap;

use crate::tenant::Tenant;

/// What fills a hostile instance's memory, and what its stores write.
pub(crate) const HOSTILE: u8 = 0x5a;
const WRITTEN: u8 = 0x33;

const WASM_PAGE: u64 = 0x1_0000;
const GUARD: u64 = 32 << 20;

/// Where something ends besides the memory itself: what earlier tenants had and what it may grow to, positive
/// numbers, the reservation, the guard behind, what an address with an offset can reach, and all numbers.
const BOUNDARIES: [u64; 9] = [
    2 * WASM_PAGE,
    8 * WASM_PAGE,
    16 * WASM_PAGE,
    1 << 31,
    4 << 30,
    (4 << 30) + GUARD,
    8 << 30,
    1 << 63,
    u64::MAX,
];

/// Every access that a guest exports.
pub(crate) struct Attacks {
    accesses: Vec<Access>,
    /// The last address.
    last: u64,
}

/// An export called `KIND WIDTH OFFSET INSTRUCTION`.
struct Access {
    export: String,
    stores: bool,
    width: u64,
    offset: u64,
}

impl Attacks {
    /// Those of the instance's module.
    pub(crate) fn of(tenant: &mut Tenant) -> Self {
        let is_64 =
            tenant.instance.get_memory(&mut tenant.store, "memory").unwrap().ty(&tenant.store).is_64();
        let exports = tenant.instance.exports(&mut tenant.store);
        let accesses: Vec<_> = exports.filter_map(|export| Access::parse(export.name())).collect();
        let loads = accesses.iter().filter(|access| !access.stores).count();
        let stores = accesses.len() - loads;
        assert!(
            loads >= 4 * 31 && stores >= 4 * 14,
            "{loads} loads and {stores} stores: the guest has shrunk"
        );
        Self { accesses, last: if is_64 { u64::MAX } else { u32::MAX.into() } }
    }

    /// A part of them, `first` of `parts`.
    pub(crate) fn part(mut self, first: usize, parts: usize) -> Self {
        let mut nth = 0;
        self.accesses.retain(|_| {
            nth += 1;
            nth % parts == first % parts
        });
        self
    }

    /// Tries them all.
    ///
    /// # Panics
    ///
    /// If one neither traps nor stays inside.
    pub(crate) fn run(&self, tenant: &mut Tenant, neighbours: &[Tenant]) {
        let size = tenant.size() as u64;
        let (mut inside, mut trapped) = (0, 0);
        for access in &self.accesses {
            let ends = BOUNDARIES.into_iter().chain([size]).flat_map(|boundary| access.around(boundary));
            let addresses = ends.chain([0, self.last]).filter(|&address| address <= self.last);
            for address in addresses.collect::<Vec<_>>() {
                let end = u128::from(address) + u128::from(access.offset) + u128::from(access.width);
                let allowed = end <= size.into();
                access.attempt(tenant, address, allowed);
                *if allowed { &mut inside } else { &mut trapped } += 1;
            }
            for one in neighbours.iter().chain([&*tenant]) {
                one.assert_untouched(&access.export);
            }
        }
        // Only those without an offset can stay inside.
        let without = self.accesses.iter().filter(|access| access.offset == 0).count();
        assert!(inside >= 3 * without, "only {inside} accesses stayed inside");
        assert!(trapped >= 3 * self.accesses.len(), "only {trapped} accesses trapped");
    }
}

impl Access {
    /// The access that an export with that name makes, if it makes one.
    fn parse(export: &str) -> Option<Self> {
        let mut words = export.split(' ');
        let stores = match words.next()? {
            "load" => false,
            "store" => true,
            _ => return None,
        };
        let width = words.next()?.parse().unwrap();
        let offset = words.next()?.strip_prefix("0x").expect("an offset in hexadecimal");
        let offset = u64::from_str_radix(offset, 16).unwrap();
        Some(Self { export: export.into(), stores, width, offset })
    }

    /// The addresses with which it ends before a boundary, at it, just beyond, and begins before, there and beyond.
    fn around(&self, boundary: u64) -> impl Iterator<Item = u64> + use<> {
        let first = boundary.wrapping_sub(self.offset);
        let has_it = boundary >= self.offset;
        let ends = [self.width + 1, self.width, self.width.wrapping_sub(1)];
        let begins = [1, 0, u64::MAX];
        let all = ends.into_iter().chain(begins).map(move |before| first.wrapping_sub(before));
        // Those that are beyond zero are the largest addresses: they have boundaries of their own.
        all.filter(move |_| has_it)
    }

    /// Makes it, and looks at what it read or wrote.
    fn attempt(&self, tenant: &mut Tenant, address: u64, allowed: bool) {
        let given = address.cast_signed();
        let result = if self.stores {
            let store = tenant.instance.get_typed_func::<i64, ()>(&mut tenant.store, &self.export).unwrap();
            store.call(&mut tenant.store, given).map(|()| None)
        } else {
            let load = tenant.instance.get_typed_func::<i64, i64>(&mut tenant.store, &self.export).unwrap();
            load.call(&mut tenant.store, given).map(Some)
        };
        let what = || alloc::format!("{} at {address:#x} of {:#x} bytes", self.export, tenant.size());
        match result {
            Err(error) => {
                let trap = error.downcast_ref::<Trap>();
                assert_eq!(trap, Some(&Trap::MemoryOutOfBounds), "{}: {error:?}", what());
                assert!(!allowed, "{} trapped", what());
                if self.stores && !self.export.contains(" memory.") {
                    self.mend(tenant, address);
                }
            }
            Ok(_) if !allowed => panic!("{} did not trap", what()),
            Ok(Some(read)) => {
                let [first, rest @ ..] = read.to_le_bytes();
                let own = first == HOSTILE && rest.iter().all(|byte| [0, HOSTILE].contains(byte));
                assert!(own, "{} read {read:#x}", what());
            }
            Ok(None) => {
                let start = usize::try_from(address + self.offset).unwrap();
                let end = start + usize::try_from(self.width).unwrap();
                let message = what();
                // What else it wrote, whoever looks at the whole memory finds.
                let place = &mut tenant.bytes_mut()[start..end];
                assert!(place.iter().all(|&byte| byte == WRITTEN), "{message} wrote {place:x?}");
                place.fill(HOSTILE);
            }
        }
    }

    /// A store that straddles the end may have written what is inside: a machine can store 16 bytes as two
    /// halves, the lower one first. Writes there what was there.
    fn mend(&self, tenant: &mut Tenant, address: u64) {
        let bytes = tenant.bytes_mut();
        let start = address.checked_add(self.offset).and_then(|start| usize::try_from(start).ok());
        if let Some(inside) = start.and_then(|start| bytes.get_mut(start..)) {
            let whole = inside.iter().all(|byte| [HOSTILE, WRITTEN].contains(byte));
            assert!(whole, "{} at {address:#x} wrote {inside:x?}", self.export);
            inside.fill(HOSTILE);
        }
    }
}
