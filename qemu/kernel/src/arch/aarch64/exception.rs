//! Exceptions: the stacks they run on, what they save, and their way to [`dispatch`].
//!
//! ```text
//!   EL1t, SP_EL0   the program     --exception-->  EL1h, SP_EL1  save, exception_taken, dispatch,
//!                                                                restore, eret
//!                                               data abort       less of it, data_abort_resolved
//!   EL1h, SP_EL1   in a handler    --exception-->  EL1h on the nested stack, exception_nested: fatal
//! ```

use core::arch::{asm, global_asm};
use core::fmt;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU32, Ordering};

use aarch64_cpu::registers::{FAR_EL1, Readable, SPSel};

use super::cpus::{self, Own};
use super::syndrome::{data_access, decode, refused};
use super::timer;
use crate::exception::{Exception, dispatch, resolved};
use crate::panic::panic_in_exception;
use crate::stack::{GuardedStack, Stack};
use crate::{Exit, println};

const KIB: usize = 1024;

/// Where the boot CPU's SP_EL1 points whenever the program runs.
#[unsafe(link_section = ".stacks")]
static EXCEPTION_STACK: GuardedStack<{ 64 * KIB }> = GuardedStack::new();

/// Where the boot CPU reports an exception inside a handler.
#[unsafe(link_section = ".stacks")]
static NESTED_STACK: GuardedStack<{ 64 * KIB }> = GuardedStack::new();

/// The upper end of that stack.
pub(super) const FIRST_NESTED_TOP: *mut u8 = {
    let stack = (&raw const NESTED_STACK).cast_mut().cast::<u8>();
    stack.wrapping_add(size_of::<GuardedStack<{ 64 * KIB }>>())
};

global_asm!(
    include_str!("vectors.s"),
    X = const offset_of!(Frame, x),
    SP = const offset_of!(Frame, sp),
    PC = const offset_of!(Frame, pc),
    ESR = const offset_of!(Frame, esr),
    FPSR = const offset_of!(Frame, fpsr),
    Q = const offset_of!(Frame, q),
    SIZE = const size_of::<Frame>(),
    NESTED = const offset_of!(Own, nested),
);

/// All that an exception interrupted, as `vectors.s` has saved it and will restore it.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Frame {
    x: [u64; 31],
    sp: u64,
    pc: u64,
    spsr: u64,
    esr: u64,
    far: u64,
    fpsr: u64,
    fpcr: u64,
    q: [u128; 32],
}

// Pairs that are saved and restored together; a stack pointer is a multiple of 16.
const _: () = assert!(offset_of!(Frame, sp) == offset_of!(Frame, x) + 8 * 31);
const _: () = assert!(offset_of!(Frame, spsr) == offset_of!(Frame, pc) + 8);
const _: () = assert!(offset_of!(Frame, far) == offset_of!(Frame, esr) + 8);
const _: () = assert!(offset_of!(Frame, fpcr) == offset_of!(Frame, fpsr) + 8);
const _: () = assert!(size_of::<Frame>().is_multiple_of(16));

impl Frame {
    /// SPSR_EL1.{SS, IL, BTYPE}: a pending step, an illegal state, an indirect branch in flight.
    /// They belong to the instruction that was interrupted.
    const OF_INSTRUCTION: u64 = 1 << 21 | 1 << 20 | 0b11 << 10;

    /// The instruction that was interrupted, or that a breakpoint stands on.
    #[must_use]
    pub const fn pc(&self) -> u64 {
        self.pc
    }

    /// The stack pointer.
    #[must_use]
    pub const fn sp(&self) -> u64 {
        self.sp
    }

    /// The frame pointer, x29.
    #[must_use]
    pub const fn fp(&self) -> u64 {
        self.x[29]
    }

    /// Goes on at the function at `pc`, with the interrupt mask as it was.
    pub const fn set_pc(&mut self, pc: u64) {
        self.pc = pc;
        self.spsr &= !Self::OF_INSTRUCTION;
    }

    /// Goes on with this stack pointer: a multiple of 16.
    pub const fn set_sp(&mut self, sp: u64) {
        self.sp = sp;
    }

    /// Goes on with this frame pointer.
    pub const fn set_fp(&mut self, fp: u64) {
        self.x[29] = fp;
    }

    /// The `n`th argument register of a C function, x0 to x3.
    ///
    /// # Panics
    /// If `n` is 4 or more.
    #[must_use]
    pub const fn argument(&self, n: usize) -> u64 {
        assert!(n < 4, "arguments 0 to 3 are in the frame on every architecture");
        self.x[n]
    }

    /// Sets the `n`th argument register of a C function.
    ///
    /// # Panics
    /// If `n` is 4 or more.
    pub const fn set_argument(&mut self, n: usize, value: u64) {
        assert!(n < 4, "arguments 0 to 3 are in the frame on every architecture");
        self.x[n] = value;
    }

    /// ESR_EL1.
    pub(super) const fn syndrome(&self) -> u64 {
        self.esr
    }

    /// ESR_EL1.EC.
    pub(super) const fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// FAR_EL1; means something for aborts.
    pub(super) const fn fault_address(&self) -> u64 {
        self.far
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sp, pc, spsr, esr, far, fpsr, fpcr, .. } = self;
        writeln!(f, "  pc  {pc:016x}  sp  {sp:016x}  spsr {spsr:08x}")?;
        writeln!(f, "  far {far:016x}  esr {esr:016x}  fpsr {fpsr:08x}  fpcr {fpcr:08x}")?;
        for (row, registers) in self.x.chunks(4).enumerate() {
            for (column, x) in registers.iter().enumerate() {
                write!(f, "  x{:<2} {x:016x}", row * 4 + column)?;
            }
            writeln!(f)?;
        }
        for (row, registers) in self.q.chunks(2).enumerate() {
            let end = if row == 15 { "" } else { "\n" };
            let [even, odd] = [registers[0], registers[1]];
            let first = row * 2;
            write!(f, "  q{first:<2} {even:032x}  q{:<2} {odd:032x}{end}", first + 1)?;
        }
        Ok(())
    }
}

/// The stacks that handlers run on.
pub(crate) fn stacks() -> impl Iterator<Item = Stack> {
    [EXCEPTION_STACK.stack("exception"), NESTED_STACK.stack("nested exception")].into_iter()
}

/// Points SP_EL1 to the stack for handlers. The caller runs at EL1t, and in no handler.
pub(super) fn set_stack() {
    // SAFETY: SP_EL1 is nobody's stack while the program runs, and no exception can come between
    // the three that would use it: they touch no memory and interrupts are masked.
    unsafe {
        asm!(
            "msr spsel, #1",
            "mov sp, {}",
            "msr spsel, #0",
            in(reg) EXCEPTION_STACK.top(),
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Lets system errors in: the vectors have been there since `boot.s`, and a system error is
/// reported better when it comes than never. Interrupts stay masked.
pub(crate) fn init() {
    // SAFETY: clears PSTATE.A; the handler is in place.
    unsafe { asm!("msr daifclr, #0b0100", options(nomem, nostack, preserves_flags)) };
}

/// The exception that is being answered and had interrupted this frame: a synchronous one, since all
/// others are masked or fatal.
pub(crate) fn cause(frame: &Frame) -> Exception {
    decode(frame, 0)
}

/// Where `vectors.s` goes for a data abort first: whether the access is to be tried again.
#[unsafe(no_mangle)]
extern "C" fn data_abort_resolved(addr: u64, syndrome: u64) -> bool {
    refused(syndrome).is_some() && resolved(addr, data_access(syndrome))
}

/// The address of the data abort that a resolver is asked about, if one is.
pub(crate) fn resolving() -> Option<u64> {
    let in_handler = SPSel.matches_all(SPSel::SP::ELx);
    (in_handler && cpus::interrupted().is_null()).then(|| FAR_EL1.get())
}

/// Where `vectors.s` goes for an exception that interrupted the program.
#[unsafe(no_mangle)]
extern "C" fn exception_taken(frame: &mut Frame, vector: u64) {
    /// The row of interrupts: they are let in for the timer's sake.
    const INTERRUPT: u64 = 1;
    if vector == INTERRUPT {
        return timer::interrupt();
    }
    dispatch(frame, decode(frame, vector));
}

/// Where `vectors.s` goes for an exception inside a handler.
#[unsafe(no_mangle)]
extern "C" fn exception_nested(frame: &mut Frame, vector: u64) -> ! {
    static TIMES: AtomicU32 = AtomicU32::new(0);
    match TIMES.fetch_add(1, Ordering::Relaxed) {
        0 => panic_in_exception(frame, &decode(frame, vector), " inside an exception handler"),
        // The report itself does not work; a shorter one may, once.
        1 => {
            println!("kernel panicked again at {:#x}, in its report of a panic", frame.pc());
            crate::exit(Exit::Failure)
        }
        _ => super::power::end(Exit::Failure),
    }
}
