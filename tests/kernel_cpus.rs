//! The boot kernel's CPUs. Everything holds for one CPU too; how many there are, the first test says.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod machine {
    use core::arch::{asm, global_asm};
    use core::sync::atomic::{AtomicUsize, Ordering};

    use kernel::Frame;
    use kernel::cpus::{MAX, count, current};
    use kernel::exception::{Exception, Handled};

    /// One number for each CPU.
    pub(crate) type PerCpu = [AtomicUsize; MAX];

    pub(crate) const fn zeros() -> PerCpu {
        [const { AtomicUsize::new(0) }; MAX]
    }

    /// What each CPU has now.
    pub(crate) fn values(numbers: &PerCpu) -> [usize; MAX] {
        numbers.each_ref().map(|number| number.load(Ordering::SeqCst))
    }

    /// `value(cpu)` for each CPU there is, 0 for the others.
    pub(crate) fn expected(value: impl Fn(usize) -> usize) -> [usize; MAX] {
        core::array::from_fn(|cpu| if cpu < count() { value(cpu) } else { 0 })
    }

    /// Returns once `cpus` have come here.
    pub(crate) fn meet(place: &AtomicUsize, cpus: usize) {
        place.fetch_add(1, Ordering::SeqCst);
        while place.load(Ordering::SeqCst) < cpus {
            kernel::cpus::relax();
        }
    }

    /// Whether there are CPUs enough; says so if not.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn enough(cpus: usize) -> bool {
        if count() < cpus {
            kernel::println!("passes for want of CPUs: {} of {cpus} (-smp {cpus})", count());
        }
        count() >= cpus
    }

    /// Where CPU `cpu` faults: in page 0.
    pub(crate) fn place_of(cpu: usize) -> u64 {
        64 + 8 * cpu as u64
    }

    pub(crate) static IN_HOOK: AtomicUsize = AtomicUsize::new(0);
    pub(crate) static ANSWERED: PerCpu = zeros();

    /// Answers all CPUs' faults at the same time, each on the CPU that has it.
    pub(crate) fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
        meet(&IN_HOOK, count());
        match *exception {
            Exception::PageFault { addr, .. } if addr == place_of(current()) => {
                ANSWERED[current()].fetch_add(1, Ordering::SeqCst);
                after(frame)
            }
            _ => Handled::No,
        }
    }

    /// Has `fault` return.
    pub(crate) fn after(frame: &mut Frame) -> Handled {
        frame.set_pc(after_fault as *const () as u64);
        Handled::Resume
    }

    unsafe extern "C" {
        /// Loads from `address`, where that faults.
        pub(crate) fn fault(address: u64) -> u64;
        fn after_fault();
    }

    #[cfg(target_arch = "x86_64")]
    global_asm!(
        ".global fault",
        "fault: mov rax, [rdi]",
        "ret",
        ".global after_fault",
        "after_fault: mov eax, 77",
        "ret",
    );
    #[cfg(target_arch = "aarch64")]
    global_asm!(
        ".global fault",
        "fault: ldr x0, [x0]",
        "ret",
        ".global after_fault",
        "after_fault: mov x0, #77",
        "ret",
    );

    /// The registers that say how memory and vectors work.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn control() -> [u64; 6] {
        let (cr0, cr3, cr4): (u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4,
                options(nomem, nostack, preserves_flags));
        }
        let (low, high): (u32, u32);
        // SAFETY: XCR0, which is there once the kernel runs.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
        let msr = |number: u32| {
            let (low, high): (u32, u32);
            // SAFETY: EFER and IA32_PAT, which every CPU with 64-bit mode has.
            unsafe {
                asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack))
            };
            u64::from(high) << 32 | u64::from(low)
        };
        [cr0, cr3, cr4, u64::from(high) << 32 | u64::from(low), msr(0xc000_0080), msr(0x277)]
    }

    /// The registers that say how memory and vectors work.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn control() -> [u64; 8] {
        let mut values = [0; 8];
        macro_rules! read {
            ($($index:literal $register:literal),*) => { $(
                // SAFETY: reads a register.
                unsafe {
                    asm!(concat!("mrs {}, ", $register), out(reg) values[$index],
                        options(nomem, nostack, preserves_flags));
                }
            )* };
        }
        read!(0 "sctlr_el1", 1 "tcr_el1", 2 "mair_el1", 3 "ttbr0_el1", 4 "ttbr1_el1", 5 "cpacr_el1",
            6 "vbar_el1", 7 "daif");
        values
    }
}

#[cfg(target_os = "none")]
use {
    core::sync::atomic::{AtomicUsize, Ordering},
    kernel::cpus::{count, current, together},
    machine::{expected, values, zeros},
};

harness::tests! {
    #[cfg(target_os = "none")]
    fn every_cpu_runs_its_number() {
        kernel::println!("{} CPUs", count());
        assert_eq!(current(), 0);
        let ran = zeros();
        together(count(), &|cpu| {
            assert_eq!(cpu, current());
            ran[cpu].fetch_add(cpu + 1, Ordering::SeqCst);
        });
        assert_eq!(values(&ran), expected(|cpu| cpu + 1));
    }

    #[cfg(target_os = "none")]
    fn all_are_at_work_at_once_again_and_again() {
        let ran = zeros();
        for _ in 0..50 {
            let place = AtomicUsize::new(0);
            together(count(), &|cpu| {
                machine::meet(&place, count());
                ran[cpu].fetch_add(1, Ordering::SeqCst);
            });
        }
        assert_eq!(values(&ran), expected(|_| 50));
        // CPUs that are not asked for do nothing.
        together(1, &|cpu| { ran[cpu].fetch_add(1, Ordering::SeqCst); });
        assert_eq!(values(&ran), expected(|cpu| 50 + usize::from(cpu == 0)));
    }

    #[cfg(target_os = "none")]
    fn work_that_comes_while_a_cpu_goes_idle_is_not_missed() {
        let ran = zeros();
        let rounds = if harness::full() { 50_000 } else { 500 };
        for _ in 0..rounds {
            together(count(), &|cpu| { ran[cpu].fetch_add(1, Ordering::Relaxed); });
        }
        assert_eq!(values(&ran), expected(|_| rounds));
    }

    #[cfg(target_os = "none")]
    fn all_run_with_the_same_registers() {
        let mine = machine::control();
        together(count(), &|_| assert_eq!(machine::control(), mine));
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn the_window_needs_the_levels_there_are() {
        const LA57: u64 = 1 << 12;
        let [_, _, cr4, ..] = machine::control();
        let highest = kernel::window().end - 1;
        // Canonical with 48 bits: the upper 17 are alike.
        assert_eq!(highest >> 47 == 0x1_ffff, cr4 & LA57 == 0, "CR4 {cr4:#x}, window {:x?}", kernel::window());
        let words = || harness::boot().command_line.split_ascii_whitespace();
        assert!(words().all(|word| word != "la57"));
    }

    #[cfg(target_os = "none")]
    fn each_has_stacks_of_its_own() {
        together(count(), &|cpu| {
            let local = &raw const cpu;
            let address = local.addr() as u64;
            let stack = kernel::stack::all().find(|stack| stack.bytes().contains(&address));
            assert_eq!(stack.map(|stack| (stack.name, stack.cpu)), Some(("main", cpu)));
        });
        let stacks = || kernel::stack::all().filter(|stack| stack.name == "exception");
        assert_eq!(stacks().count(), count());
    }

    #[cfg(target_os = "none")]
    fn faults_on_all_at_once_are_answered_where_they_happen() {
        kernel::exception::set_hook(machine::answer);
        together(count(), &|cpu| {
            // SAFETY: the hook answers this fault and no other.
            assert_eq!(unsafe { machine::fault(machine::place_of(cpu)) }, 77);
        });
        assert_eq!(machine::IN_HOOK.load(Ordering::SeqCst), count());
        assert_eq!(values(&machine::ANSWERED), expected(|_| 1));
    }

    #[cfg(target_os = "none")]
    fn the_heap_serves_all_at_once() {
        extern crate alloc;
        let before = kernel::heap::used();
        together(count(), &|cpu| {
            for round in 0..500 {
                let bytes = alloc::vec![cpu; round];
                assert!(bytes.iter().all(|byte| *byte == cpu));
            }
        });
        assert_eq!(kernel::heap::used(), before);
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn an_interrupt_reaches_idle_cpus() {
        let answered = zeros();
        for _ in 0..100 {
            kernel::cpus::interrupt_others(&|| { answered[current()].fetch_add(1, Ordering::SeqCst); });
        }
        assert_eq!(values(&answered), expected(|cpu| if cpu == 0 { 0 } else { 100 }));
        // They still wait for work, and are still woken.
        let ran = zeros();
        together(count(), &|cpu| { ran[cpu].fetch_add(1, Ordering::SeqCst); });
        assert_eq!(values(&ran), expected(|_| 1));
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn an_interrupt_reaches_a_cpu_that_spins_with_interrupts_masked() {
        if !machine::enough(2) {
            return;
        }
        let (ready, released) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let before = kernel::cpus::interrupts();
        together(count(), &|cpu| {
            machine::meet(&ready, count());
            if cpu == 0 {
                kernel::cpus::interrupt_others(&|| { released.fetch_add(1, Ordering::SeqCst); });
            } else {
                // Only the interrupt ends this.
                while released.load(Ordering::SeqCst) < count() - 1 {
                    kernel::cpus::relax();
                }
            }
        });
        assert_eq!(kernel::cpus::interrupts() - before, count() as u64 - 1);
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn interrupts_of_all_to_all_lose_nothing() {
        let answered = zeros();
        let before = kernel::cpus::interrupts();
        together(count(), &|_| {
            for _ in 0..1000 {
                kernel::cpus::interrupt_others(&|| { answered[current()].fetch_add(1, Ordering::SeqCst); });
            }
        });
        let others = count() - 1;
        assert_eq!(values(&answered), expected(|_| 1000 * others));
        assert_eq!(kernel::cpus::interrupts() - before, 1000 * (count() * others) as u64);
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn interrupts_during_exceptions_change_nothing() {
        kernel::exception::set_hook(interrupts::hook);
        together(count(), &|cpu| {
            for _ in 0..50 {
                // SAFETY: the hook answers this fault and no other.
                assert_eq!(unsafe { machine::fault(machine::place_of(cpu)) }, 77);
            }
        });
        let others = count() - 1;
        assert_eq!(values(&interrupts::ANSWERED), expected(|_| 50 * others));
    }

    #[cfg(all(target_os = "none", target_arch = "x86_64"))]
    fn an_interrupt_leaves_the_vector_registers_alone() {
        if !machine::enough(2) {
            return;
        }
        let (ready, done) = (AtomicUsize::new(0), core::sync::atomic::AtomicU8::new(0));
        together(2, &|cpu| {
            machine::meet(&ready, 2);
            if cpu == 1 {
                // SAFETY: changes vector registers, as a callee may.
                let lost = unsafe { interrupts::hold_vectors(&done, 0x5a5a_1234_8765_a5a5) };
                assert_eq!(lost, 0, "bits of vector registers that changed");
                return;
            }
            for round in 0..300 {
                kernel::cpus::interrupt_others(&|| {
                    // Long enough for vectors.
                    let (from, mut to) = (core::hint::black_box([round; 1024]), [0; 1024]);
                    to.copy_from_slice(&from);
                    core::hint::black_box(&mut to);
                });
            }
            done.store(1, Ordering::SeqCst);
        });
    }
}

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod interrupts {
    use core::arch::global_asm;
    use core::sync::atomic::{AtomicU8, Ordering};

    use kernel::Frame;
    use kernel::cpus::{current, interrupt_others};
    use kernel::exception::{Exception, Handled};

    use super::machine::{PerCpu, after, zeros};

    pub(crate) static ANSWERED: PerCpu = zeros();

    /// Interrupts the others while it answers a fault.
    pub(crate) fn hook(frame: &mut Frame, _: &Exception) -> Handled {
        interrupt_others(&|| {
            ANSWERED[current()].fetch_add(1, Ordering::SeqCst);
        });
        after(frame)
    }

    unsafe extern "C" {
        /// Holds `value` in all vector registers until `done` is set, and returns the bits that changed.
        pub(crate) fn hold_vectors(done: &AtomicU8, value: u64) -> u64;
    }

    global_asm!(
        ".global hold_vectors",
        "hold_vectors: vmovq xmm0, rsi",
        "vpbroadcastq ymm0, xmm0",
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovdqa ymm\\n, ymm0",
        ".endr",
        "2: pause",
        "cmp byte ptr [rdi], 0",
        "je 2b",
        // ymm0 is compared with what it was made of; the others with it.
        "vextracti128 xmm14, ymm0, 1",
        "vpxor xmm14, xmm14, xmm0",
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,15",
        "vpxor ymm\\n, ymm\\n, ymm0",
        "vpor ymm14, ymm14, ymm\\n",
        ".endr",
        "vmovq rax, xmm0",
        "xor rax, rsi",
        "vextracti128 xmm0, ymm14, 1",
        "vpor xmm0, xmm0, xmm14",
        "vmovq rcx, xmm0",
        "or rax, rcx",
        "vpextrq rcx, xmm0, 1",
        "or rax, rcx",
        "vzeroupper",
        "ret",
    );
}
