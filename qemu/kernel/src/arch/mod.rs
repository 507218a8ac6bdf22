//! What differs between architectures, behind identical names.
//!
//! Each architecture's directory provides exactly this, and common code uses nothing else:
//!
//! | module | contract |
//! |---|---|
//! | `boot` | `_start` and all before Rust, in assembly: a stack, `.bss` zeroed, vector registers usable, early identity map with caches on, the CPU checked (a message naming what is missing, then the machine ends). Ends in `arch_start`, which reads what the boot protocol says into a [`Discovered`](crate::boot::Discovered) and calls [`boot::start`](crate::boot::start). [`cpus::current`](crate::cpus::current) works from the first exception on |
//! | `serial` | `write_byte(u8)`, waiting for room; `read_byte() -> Option<u8>`, not waiting. Usable from `arch_start` on, in any state, without locks |
//! | `power` | `end(Exit) -> !` |
//! | `clock` | `ticks() -> u64`, monotonic; `frequency() -> u64`, ticks a second, may take a while the first time it is called; `wall_clock_seconds() -> Option<u64>` since 1970; `instructions() -> u64`, counts instructions under `-icount`, cheap; `since_entry() -> u64`, the same from the kernel's first one |
//! | `random` | `hardware() -> Option<u64>` |
//! | `paging` | `window() -> Range<u64>`; `install(&[Region], &mut Frames) -> u64`: maps each [`Region`](crate::map::Region) and nothing else, with the largest pages that fit, switches to the new tables, returns the physical address of the root that serves the window, whose entries for the window are empty |
//! | `exception` | `init()`, which `arch_start` may have called earlier itself; `Frame`; `cause(&Frame) -> Exception`, what had interrupted the frame that is being answered; `resolving() -> Option<u64>`, the address of the page fault that a resolver is being asked about, in which case there is no frame; `stacks() -> impl Iterator<Item = Stack>`, the stacks that handlers run on (`static`s of type `GuardedStack` in `#[unsafe(link_section = ".stacks")]`). A load or store of the program's that faults has the [resolver](crate::exception::set_resolver) called, with as little saved as a call may change, and that is all if it says true. Every other exception saves all vector state that is in use, calls [`dispatch`](crate::exception::dispatch), and returns to the frame as `dispatch` left it |
//! | `cpus` | `STACKS`, names and sizes of what CPUs 1 and up run on, the main stack first; `current() -> usize`, cheap; `interrupted() -> *mut Frame`, `set_interrupted(*mut Frame)` and `clear_interrupted()`, each CPU's own: what the exception that it is answering has interrupted, null if there is none; `start(count)`: starts CPUs `1..count` on the tables that `install` has made, on the stacks that [`stack`](crate::stack) has reserved, with the control registers of this CPU, each of which calls [`cpus::run`](crate::cpus::run); `wait(&AtomicBool)`: idles until the value is set, or less; `wake(cpu)` ends that. x86_64 only: `interrupt(cpu)` has that CPU call [`cpus::answer`](crate::cpus) as an exception that nothing masks |
//! | `timer` | `start(period) -> bool`: lets an interrupt come to this CPU every so many nanoseconds, if the machine can, with all registers saved, that calls [`timer::ticked`](crate::timer) and nothing else; `stop()` ends that, and masks interrupts |
//! | `cpu` | `frame_pointer() -> u64` of the caller (`#[inline(always)]`), `relax()`: what a waiting loop does |
//! | `mem` | in assembly: `memcpy memmove memset memcmp bcmp`. They change no vector register that an exception's way in has not saved |
//!
//! Frame records are alike on both: `[fp]` is the caller's frame pointer, `[fp + 8]` the return
//! address; the outermost has 0.
//!
//! `Frame` has these methods on each architecture: `pc() sp() fp() set_pc(u64) set_sp(u64)
//! set_fp(u64) argument(n) set_argument(n, u64)` (n < 4) and `Display`, which prints every register.
//! `set_pc` means a jump to a function, so it also sets the flags that the ABI promises to a
//! callee (x86_64: DF clear); all other state, the interrupt mask above all, stays as interrupted.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{clock, cpu, cpus, exception, paging, power, random, serial, timer};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{clock, cpu, cpus, exception, paging, power, random, serial, timer};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the boot kernel knows x86_64 and aarch64 only");
