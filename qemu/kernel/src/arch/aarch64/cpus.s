// From PSCI CPU_ON to Rust, on CPUs 1 and up.
//
// On entry: EL1, or EL2 if the machine has it; MMU and caches off, interrupts masked. x0 is
// the CPU's `Handoff`, with what the boot CPU has in its registers: the map is the final one.

.section .text.cpus, "ax"
.global cpus_start
cpus_start:
        msr     daifset, #0b1111
        mov     x20, x0
        mrs     x9, CurrentEL
        cmp     x9, #(2 << 2)
        adr     x19, 1f
        b.ne    1f
        b       drop_to_el1                     // of `boot.s`, goes on at x19; may be far: a large kernel lies between

1:      mov     x9, #0x0800                     // a known SCTLR_EL1, as in `boot.s`
        movk    x9, #0x30d0, lsl #16
        msr     sctlr_el1, x9
        isb
        mov     x9, #(0b11 << 20)               // CPACR_EL1.FPEN
        msr     cpacr_el1, x9
        adrp    x9, exception_vectors
        add     x9, x9, :lo12:exception_vectors
        msr     vbar_el1, x9
        ldr     x9, [x20, #{OWN}]
        msr     tpidr_el1, x9
        ldr     x9, [x20, #{MAIR}]
        msr     mair_el1, x9
        ldr     x9, [x20, #{TCR}]
        msr     tcr_el1, x9
        ldr     x9, [x20, #{TTBR0}]
        msr     ttbr0_el1, x9
        ldr     x9, [x20, #{TTBR1}]
        msr     ttbr1_el1, x9
        ldr     x10, [x20, #{SCTLR}]
        ldr     x11, [x20, #{EXCEPTION}]
        ldr     x12, [x20, #{MAIN}]
        isb
        tlbi    vmalle1
        ic      iallu
        dsb     nsh
        isb
        msr     sctlr_el1, x10
        isb

        mov     sp, x11                         // SP_EL1, for handlers
        msr     spsel, #0
        mov     sp, x12
        mov     x29, #0                         // the outermost frame
        mov     x30, #0
        b       cpus_entry
