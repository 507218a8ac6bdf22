//! Time: since boot, of day, and in instructions.

use core::sync::atomic::{AtomicU64, Ordering};

use protocol::payload::Payload;
use spin::Once;

use crate::{arch, boot};

const SECOND: u64 = 1_000_000_000;

/// How far the payload's time may be from the machine's own clock to be believed: an image
/// that is booted long after it was written carries a stale time.
const FRESH: u64 = 10 * SECOND;

static BOOT_TICKS: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds per tick, times 2^32. Made when first asked for, since x86_64 has to measure it,
/// which takes milliseconds.
static SCALE: Once<u64> = Once::new();

/// Nanoseconds from 1970 to boot.
static EPOCH: Once<u64> = Once::new();

/// Starts the clock.
pub(crate) fn init() {
    BOOT_TICKS.store(arch::clock::ticks(), Ordering::Relaxed);
}

/// Nanoseconds since boot. Never goes back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let scale = *SCALE.call_once(|| (SECOND << 32) / arch::clock::frequency());
    let ticks = arch::clock::ticks().wrapping_sub(BOOT_TICKS.load(Ordering::Relaxed));
    let nanoseconds = (u128::from(ticks) * u128::from(scale)) >> 32;
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970, UTC. Never goes back.
#[must_use]
pub fn realtime_ns() -> u64 {
    EPOCH.call_once(epoch).wrapping_add(monotonic_ns())
}

/// Counts instructions under QEMU's `-icount shift=0`, else some unit of time. Cheap.
#[must_use]
#[inline]
pub fn instructions() -> u64 {
    arch::clock::instructions()
}

/// What [`instructions`] has counted since the kernel's first instruction.
#[must_use]
pub fn since_entry() -> u64 {
    arch::clock::since_entry()
}

/// The machine's clock knows seconds; the payload's time knows better if it is recent.
fn epoch() -> u64 {
    let since_boot = monotonic_ns();
    let machine =
        arch::clock::wall_clock_seconds().map(|seconds| (seconds * SECOND).saturating_sub(since_boot));
    match (machine, payload_time()) {
        (Some(machine), Some(payload)) if machine.abs_diff(payload) > FRESH => machine,
        (_, Some(payload)) => payload,
        (Some(machine), None) => machine,
        (None, None) => 0,
    }
}

fn payload_time() -> Option<u64> {
    let payload = Payload::parse(boot::info()?.payload?).ok()?;
    Some(u64::from_le_bytes(payload.get("time")?.try_into().ok()?))
}
