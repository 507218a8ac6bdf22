//! What the device tree says of the machine (Devicetree Specification 0.4).

use core::ops::Range;

use dtoolkit::Node;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};

use super::boot::early_map_end;
use super::cpus::{Others, is_other};
use super::power::Conduit;
use crate::boot::Discovered;
use crate::ranges::PAGE;

/// The tree, as far as the kernel cares.
#[derive(Debug)]
pub(super) struct Tree {
    /// What common code wants to know.
    pub(super) discovered: Discovered,
    /// The PL011.
    pub(super) console: Option<u64>,
    /// The PL031.
    pub(super) rtc: Option<u64>,
    /// How PSCI is called.
    pub(super) conduit: Conduit,
    /// CPUs beside this one that PSCI can start.
    pub(super) others: Others,
    /// The GICv2's distributor and CPU interface.
    pub(super) gic: Option<[u64; 2]>,
}

/// Reads the tree at `blob`.
///
/// # Panics
/// If it is malformed, or has more of a thing than there is room for. The message says which.
pub(super) fn read(blob: &'static [u8]) -> Tree {
    let fdt = Fdt::new(blob).unwrap_or_else(|error| panic!("malformed device tree: {error}"));
    let mut tree = Tree {
        discovered: Discovered { mapped_end: early_map_end(), ..Discovered::default() },
        console: None,
        rtc: None,
        conduit: Conduit::Hvc,
        others: Others::new(),
        gic: None,
    };
    let start = blob.as_ptr().addr() as u64;
    reserve(&mut tree.discovered, start..start + blob.len() as u64);
    for entry in fdt.memory_reservations() {
        reserve(&mut tree.discovered, entry.address()..entry.address() + entry.size());
    }
    // `virt` has all that is of interest at the top; boards have devices below `soc`, a simple-bus.
    for node in fdt.root().children() {
        if take(&mut tree, node) == Some(Kind::Bus) {
            for node in node.children() {
                take(&mut tree, node);
            }
        }
    }
    tree.discovered.cpus = tree.others.len() + 1;
    for base in tree.gic.into_iter().flatten() {
        add_device(&mut tree.discovered, base..base + PAGE);
    }
    tree
}

/// The nodes that are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    ReservedMemory,
    Chosen,
    Console,
    Clock,
    Virtio,
    Psci,
    Cpus,
    Interrupts,
    Bus,
}

impl Kind {
    fn of(node: FdtNode<'_>) -> Option<Self> {
        let Some(mut names) = node.compatible() else {
            return match node.name_without_address() {
                "chosen" => Some(Self::Chosen),
                "cpus" => Some(Self::Cpus),
                "reserved-memory" => Some(Self::ReservedMemory),
                _ if string(node, "device_type") == Some("memory") => Some(Self::Memory),
                _ => None,
            };
        };
        names.find_map(|name| match name {
            "arm,pl011" => Some(Self::Console),
            "arm,pl031" => Some(Self::Clock),
            "virtio,mmio" => Some(Self::Virtio),
            "arm,psci-0.2" | "arm,psci-1.0" => Some(Self::Psci),
            "arm,cortex-a15-gic" | "arm,gic-400" => Some(Self::Interrupts),
            "simple-bus" => Some(Self::Bus),
            _ => None,
        })
    }
}

/// Takes what a node says, if it is one of those that are of use.
fn take(tree: &mut Tree, node: FdtNode<'static>) -> Option<Kind> {
    let kind = Kind::of(node)?;
    if !matches!(node.status(), Ok(Status::Okay)) {
        return None;
    }
    let discovered = &mut tree.discovered;
    match kind {
        Kind::Memory => {
            for range in ranges(node) {
                let full = discovered.ram.push(range).is_err();
                assert!(!full, "more than {} pieces of RAM", discovered.ram.capacity());
            }
        }
        Kind::ReservedMemory => {
            for range in node.children().flat_map(ranges) {
                reserve(discovered, range);
            }
        }
        Kind::Chosen => command_line(discovered, string(node, "bootargs").unwrap_or("")),
        // The first is the console; `virt` with secure=on has a second, which is not for EL1.
        Kind::Console => tree.console = tree.console.or_else(|| device(discovered, node)),
        Kind::Clock => tree.rtc = tree.rtc.or_else(|| device(discovered, node)),
        Kind::Virtio => {
            let full =
                device(discovered, node).is_some_and(|base| discovered.virtio_mmio.push(base).is_err());
            assert!(!full, "more than {} virtio-mmio transports", discovered.virtio_mmio.capacity());
        }
        Kind::Psci => {
            if string(node, "method") == Some("smc") {
                tree.conduit = Conduit::Smc;
            }
        }
        Kind::Cpus => {
            for node in node.children().filter(|node| string(*node, "enable-method") == Some("psci")) {
                // More than there is room for stay off.
                let _ = affinity(node).filter(|reg| is_other(*reg)).map(|reg| tree.others.push(reg));
            }
        }
        Kind::Interrupts => {
            let mut registers = ranges(node).map(|range| range.start);
            tree.gic = registers.next().zip(registers.next()).map(|(distributor, cpu)| [distributor, cpu]);
        }
        Kind::Bus => {}
    }
    Some(kind)
}

/// By what PSCI knows a CPU: its `reg`, which has no size.
fn affinity(node: FdtNode<'_>) -> Option<u64> {
    node.reg().ok()??.next()?.address().ok()
}

/// Lists a device's first range of registers and returns where it starts.
fn device(discovered: &mut Discovered, node: FdtNode<'_>) -> Option<u64> {
    let range = ranges(node).next()?;
    let base = range.start;
    add_device(discovered, range);
    Some(base)
}

/// Adds whole pages, joined to those they touch: virtio-mmio transports share pages.
fn add_device(discovered: &mut Discovered, range: Range<u64>) {
    let mut range = crate::ranges::outward(range);
    discovered.devices.retain(|other| {
        let touches = other.start <= range.end && range.start <= other.end;
        if touches {
            range = range.start.min(other.start)..range.end.max(other.end);
        }
        !touches
    });
    let full = discovered.devices.push(range).is_err();
    assert!(!full, "more than {} pieces of device registers", discovered.devices.capacity());
}

fn reserve(discovered: &mut Discovered, range: Range<u64>) {
    let full = discovered.reserved.push(range).is_err();
    assert!(!full, "more than {} reserved pieces of RAM", discovered.reserved.capacity());
}

fn command_line(discovered: &mut Discovered, words: &str) {
    let line = &mut discovered.command_line;
    let full = line.push_str(words).is_err();
    assert!(!full, "a command line of {} bytes; at most {} fit", words.len(), line.capacity());
}

/// The node's `reg` as ranges of addresses; those that make no sense are left out.
fn ranges<'a>(node: FdtNode<'a>) -> impl Iterator<Item = Range<u64>> + use<'a> {
    node.reg().ok().flatten().into_iter().flatten().filter_map(|reg| {
        let start: u64 = reg.address().ok()?;
        let end = start.checked_add(reg.size().ok()?)?;
        (start < end).then_some(start..end)
    })
}

fn string<'a>(node: FdtNode<'a>, property: &str) -> Option<&'a str> {
    dtoolkit::Property::value_as(&node.property(property)?).ok()
}
