// From QEMU's jump to the ELF entry to the first line of Rust.
//
// On entry: EL1 or EL2, MMU and caches off, interrupts masked. x0 is the device
// tree or nothing of use: `boot.rs` looks at what it points to.
//
//   EL2 -> EL1 -> CPU checked -> FP on -> vectors -> early map, MMU on
//       -> .bss zeroed -> EL1t on the main stack -> arch_start
//
// Until the MMU is on all memory is Device memory, where an access that is not
// aligned faults (Arm ARM, "Alignment of data accesses"): no Rust before that,
// as compilers and `memcpy` may use any alignment.

.section .text.boot, "ax"
.global _start
_start:
        msr     daifset, #0b1111
        adrp    x9, CPUS_OWN                    // CPU 0's, as others get theirs when they are started
        add     x9, x9, :lo12:CPUS_OWN
        msr     tpidr_el1, x9
        mov     x20, x0                         // the device tree, perhaps
        mov     x21, #0                         // entered at EL2? then PSCI is by smc
        mrs     x9, CurrentEL
        cmp     x9, #(2 << 2)
        b.lo    1f
        b.hi    entered_at_el3
        mov     x21, #1
        adr     x19, 1f
        b       drop_to_el1

        // A known SCTLR_EL1: RES1 bits, everything else off.
1:      mov     x9, #0x0800
        movk    x9, #0x30d0, lsl #16
        msr     sctlr_el1, x9
        isb

        // ID_AA64PFR0_EL1.FP and AdvSIMD: 0b1111 is "not there". ID_AA64MMFR0_EL1.TGran4 likewise.
        mrs     x9, id_aa64pfr0_el1
        adr     x0, lacks_fp
        ubfx    x10, x9, #16, #4
        cmp     x10, #0b1111
        b.eq    refuse
        ubfx    x10, x9, #20, #4
        cmp     x10, #0b1111
        b.eq    refuse
        mrs     x22, id_aa64mmfr0_el1
        adr     x0, lacks_4k
        ubfx    x10, x22, #28, #4
        cmp     x10, #0b1111
        b.eq    refuse

        // CPACR_EL1.FPEN: vector registers do not trap. SVE and SME stay trapped (ZEN, SMEN = 0),
        // so what handlers save of the vectors, q0 to q31, is all of them.
        mov     x9, #(0b11 << 20)
        msr     cpacr_el1, x9
        adrp    x9, exception_vectors
        add     x9, x9, :lo12:exception_vectors
        msr     vbar_el1, x9
        isb

        // The early map: 1 GiB blocks of level 1. Normal memory, executable, for the one that
        // holds the kernel; normal, never executable, for the device tree if it is elsewhere;
        // Device memory for the lowest, where `virt` has its console. The blocks are not global
        // and of ASID 0; the final map (`paging.rs`) is of ASID 1, so the two never meet in a TLB.
        adrp    x10, early_level1
        mov     x12, #0x0705                    // valid block, AttrIndx 1, SH 0b11, AF
        movk    x12, #0x0060, lsl #48           // PXN, UXN
        orr     x12, x12, #(1 << 11)            // nG
        str     x12, [x10]
        mov     x12, #0x0f01                    // as above with AttrIndx 0
        movk    x12, #0x0060, lsl #48
        lsr     x9, x20, #30
        sub     x13, x9, #1
        cmp     x13, #510                       // not where devices are, nor beyond the table
        b.hi    2f
        lsl     x13, x9, #30
        orr     x13, x13, x12
        str     x13, [x10, x9, lsl #3]
2:      adrp    x9, _start
        lsr     x9, x9, #30
        lsl     x13, x9, #30
        orr     x13, x13, x12
        bic     x13, x13, #(1 << 53)            // PXN off
        str     x13, [x10, x9, lsl #3]
        adrp    x11, early_level0
        orr     x12, x10, #0b11                 // table
        str     x12, [x11]
        // These stores went past the caches; no line that a loader left may hide them.
        dmb     sy
        dc      ivac, x10
        add     x12, x10, x9, lsl #3
        dc      ivac, x12
        lsr     x9, x20, #30
        and     x9, x9, #511
        add     x12, x10, x9, lsl #3
        dc      ivac, x12
        dc      ivac, x11

        mov     x9, #0x04ff                     // 0: normal, write-back; 1: Device-nGnRE
        msr     mair_el1, x9
        // 48 bits for both halves, 4 KiB granule, walks inner-shareable write-back.
        mov     x9, #0x3510                     // T0SZ 16, IRGN0 ORGN0 0b01, SH0 0b11, TG0 0b00
        movk    x9, #0xb510, lsl #16            // T1SZ 16, IRGN1 ORGN1 0b01, SH1 0b11, TG1 0b10
        ubfx    x10, x22, #0, #4                // PARange
        mov     x12, #0b0101                    // 48 bits; more would need LPA2
        cmp     x10, x12
        csel    x10, x10, x12, lo
        orr     x9, x9, x10, lsl #32            // IPS
        mrs     x10, id_aa64mmfr1_el1
        and     x10, x10, #0b1111               // HAFDBS: 2 and up, access flag and dirty state
        cmp     x10, #2
        b.lo    3f
        orr     x9, x9, #(0b11 << 39)           // HA, HD
3:      msr     tcr_el1, x9
        msr     ttbr0_el1, x11
        adrp    x9, window_root
        msr     ttbr1_el1, x9
        isb
        tlbi    vmalle1
        ic      iallu
        dsb     nsh
        isb
        mrs     x9, sctlr_el1
        mov     x10, #(1 << 0 | 1 << 2 | 1 << 3)        // M, C, SA
        orr     x10, x10, #(1 << 12)                    // I
        orr     x9, x9, x10
        msr     sctlr_el1, x9
        isb

        adrp    x9, __bss_start
        add     x9, x9, :lo12:__bss_start
        adrp    x10, __bss_end
        add     x10, x10, :lo12:__bss_end
        movi    v0.16b, #0
4:      cmp     x9, x10
        b.hs    5f
        stp     q0, q0, [x9], #32
        b       4b

        // Handlers run on SP_EL1, everything else on SP_EL0 (EL1t): a handler has a good stack
        // even when the interrupted code had none left. `arch_start` sets SP_EL1 first of all.
5:      msr     spsel, #0
        adrp    x9, __stack_top
        add     x9, x9, :lo12:__stack_top
        mov     sp, x9
        mov     x29, #0                         // the outermost frame
        mov     x30, #0
        mov     x0, x20
        b       arch_start

// Hands EL1 all it could ask for, and goes there: to x19.
.global drop_to_el1
drop_to_el1:
        mov     x9, #(1 << 31)                  // HCR_EL2.RW: EL1 is AArch64; no trap, no stage 2
        msr     hcr_el2, x9
        isb                                     // E2H is 0 from here, which the formats below need
        mov     x9, #0x33ff                     // CPTR_EL2: RES1 bits, no FP trap
        msr     cptr_el2, x9
        msr     hstr_el2, xzr
        mov     x9, #0b11                       // CNTHCTL_EL2: physical counter and timer
        msr     cnthctl_el2, x9
        msr     cntvoff_el2, xzr
        mrs     x9, midr_el1
        msr     vpidr_el2, x9
        mrs     x9, mpidr_el1
        msr     vmpidr_el2, x9
        mrs     x9, id_aa64dfr0_el1             // PMUVer: 0 and 15 mean no counters
        ubfx    x9, x9, #8, #4
        sub     x9, x9, #1
        cmp     x9, #14
        b.hs    6f
        mrs     x9, pmcr_el0
        ubfx    x9, x9, #11, #5                 // MDCR_EL2.HPMN: every counter is EL1's
        msr     mdcr_el2, x9
6:      mov     x9, #0b0101                     // EL1h,
        orr     x9, x9, #(0b1111 << 6)          // all interrupts masked
        msr     spsr_el2, x9
        msr     elr_el2, x19
        eret

entered_at_el3:
        adr     x0, needs_el1
        // falls through

// The machine cannot run this kernel: says why (x0) and ends it. There is no stack, no device
// tree and no Rust, so this knows where `virt` has its console.
refuse:
        mov     x9, #0x09000000
7:      ldrb    w10, [x0], #1
        cbz     w10, 9f
8:      ldr     w11, [x9, #0x18]                // UARTFR
        tbnz    w11, #5, 8b                     // TXFF
        str     w10, [x9]                       // UARTDR
        b       7b
9:      mov     w0, #0x0008                     // PSCI SYSTEM_OFF
        movk    w0, #0x8400, lsl #16
        mrs     x9, CurrentEL
        cmp     x9, #(2 << 2)
        b.hi    10f                             // nobody above EL3 takes the call
        cbnz    x21, 11f
        hvc     #0
10:     wfi
        b       10b
11:     smc     #0
        b       10b

lacks_fp:
        .ascii  "allotment: this CPU has no floating point and Advanced SIMD (ID_AA64PFR0_EL1.FP, AdvSIMD);"
        .asciz  " try -cpu max or cortex-a72\r\nallotment: machine failed\r\n"
lacks_4k:
        .ascii  "allotment: this CPU has no 4 KiB translation granule (ID_AA64MMFR0_EL1.TGran4);"
        .asciz  " try -cpu max or cortex-a72\r\nallotment: machine failed\r\n"
needs_el1:
        .ascii  "allotment: entered at EL3, the kernel runs at EL1 and can be entered there or at EL2;"
        .asciz  " try -M virt without secure=on\r\nallotment: machine failed\r\n"

// Zero in the file, so that nothing needs to clear them before they are used.
.section .data.early_tables, "aw"
.balign 4096
early_level0:
        .zero   4096
early_level1:
        .zero   4096
.global window_root
window_root:
        .zero   4096
