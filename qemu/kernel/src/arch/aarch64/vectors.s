// The vector table, and what saves and restores all that a handler may touch.
//
// The kernel runs at EL1t (SP_EL0); taking an exception switches to SP_EL1, whose
// stack is untouched by whatever happened to the interrupted one. An exception at
// EL1h, from the second group, is one taken inside a handler: that is fatal, and
// SP_EL1 may be the very cause, so it moves to a stack of its own to say so.
//
// The frame is `Frame` of `exception.rs`, which fills in the offsets.
//
// A data abort that a resolver can answer pays for a part of it only:
//
//   synchronous, EL1t -> data_abort    saves the registers that a call may change: x0 to x18, x30, q0 to q31
//                          `- resolver (of q8 to q15 a call keeps the lower halves only)
//                               |- true   restored, eret: the access is tried again
//                               `- false  restored, and from here on an exception like any other
//
// ELR_EL1, SPSR_EL1 and SP_EL0 stay where they are: an exception in between is fatal. FPSR and FPCR too: what
// resolves faults does not calculate with vectors, it moves bytes.

.equ FRAME_X,           {X}
.equ FRAME_SP,          {SP}
.equ FRAME_PC,          {PC}
.equ FRAME_ESR,         {ESR}
.equ FRAME_FPSR,        {FPSR}
.equ FRAME_Q,           {Q}
.equ FRAME_SIZE,        {SIZE}

// What `exception_entry` is told, in x1: group and row of the table.
.macro taken number
        .balign 0x80
        sub     sp, sp, #FRAME_SIZE
        stp     x0, x1, [sp, #(FRAME_X + 16 * 0)]
        mov     x1, #\number
        b       save
.endm

// A synchronous exception, of which a data abort of this level takes the short way.
.macro taken_synchronous
        .balign 0x80
        sub     sp, sp, #FRAME_SIZE
        stp     x0, x1, [sp, #(FRAME_X + 16 * 0)]
        mrs     x1, esr_el1
        lsr     x0, x1, #26
        cmp     x0, #0x25                       // ESR_EL1.EC
        b.eq    data_abort
        mov     x1, #0
        b       save
.endm

// As `taken`, from inside a handler: on the CPU's stack for nested exceptions.
.macro nested number
        .balign 0x80
        msr     tpidrro_el0, x0                 // nothing runs at EL0
        mrs     x0, tpidr_el1                   // the CPU's own
        ldr     x0, [x0, #{NESTED}]
        sub     x0, x0, #FRAME_SIZE
        str     x1, [x0, #(FRAME_X + 8)]
        mov     x1, sp
        str     x1, [x0, #FRAME_SP]
        mov     sp, x0
        mrs     x0, tpidrro_el0
        str     x0, [sp, #FRAME_X]
        mov     x1, #\number
        b       save_nested
.endm

.section .text.vectors, "ax"
.balign 0x800
.global exception_vectors
exception_vectors:
        taken_synchronous                       // EL1t: synchronous, IRQ, FIQ, SError
        taken   1
        taken   2
        taken   3
        nested  4                               // EL1h
        nested  5
        nested  6
        nested  7
        nested  8                               // EL0, AArch64
        nested  9
        nested  10
        nested  11
        nested  12                              // EL0, AArch32
        nested  13
        nested  14
        nested  15
        .balign 0x80

.macro save_arguments                           // x2 to x17: a call may change them
        stp     x2, x3, [sp, #(FRAME_X + 16 * 1)]
        stp     x4, x5, [sp, #(FRAME_X + 16 * 2)]
        stp     x6, x7, [sp, #(FRAME_X + 16 * 3)]
        stp     x8, x9, [sp, #(FRAME_X + 16 * 4)]
        stp     x10, x11, [sp, #(FRAME_X + 16 * 5)]
        stp     x12, x13, [sp, #(FRAME_X + 16 * 6)]
        stp     x14, x15, [sp, #(FRAME_X + 16 * 7)]
        stp     x16, x17, [sp, #(FRAME_X + 16 * 8)]
.endm

.macro save_vectors
        stp     q0, q1, [sp, #(FRAME_Q + 32 * 0)]
        stp     q2, q3, [sp, #(FRAME_Q + 32 * 1)]
        stp     q4, q5, [sp, #(FRAME_Q + 32 * 2)]
        stp     q6, q7, [sp, #(FRAME_Q + 32 * 3)]
        stp     q8, q9, [sp, #(FRAME_Q + 32 * 4)]
        stp     q10, q11, [sp, #(FRAME_Q + 32 * 5)]
        stp     q12, q13, [sp, #(FRAME_Q + 32 * 6)]
        stp     q14, q15, [sp, #(FRAME_Q + 32 * 7)]
        stp     q16, q17, [sp, #(FRAME_Q + 32 * 8)]
        stp     q18, q19, [sp, #(FRAME_Q + 32 * 9)]
        stp     q20, q21, [sp, #(FRAME_Q + 32 * 10)]
        stp     q22, q23, [sp, #(FRAME_Q + 32 * 11)]
        stp     q24, q25, [sp, #(FRAME_Q + 32 * 12)]
        stp     q26, q27, [sp, #(FRAME_Q + 32 * 13)]
        stp     q28, q29, [sp, #(FRAME_Q + 32 * 14)]
        stp     q30, q31, [sp, #(FRAME_Q + 32 * 15)]
.endm

.macro save_registers
        save_arguments
        stp     x18, x19, [sp, #(FRAME_X + 16 * 9)]
        stp     x20, x21, [sp, #(FRAME_X + 16 * 10)]
        stp     x22, x23, [sp, #(FRAME_X + 16 * 11)]
        stp     x24, x25, [sp, #(FRAME_X + 16 * 12)]
        stp     x26, x27, [sp, #(FRAME_X + 16 * 13)]
        stp     x28, x29, [sp, #(FRAME_X + 16 * 14)]
        mrs     x2, elr_el1
        mrs     x3, spsr_el1
        mrs     x4, esr_el1
        mrs     x5, far_el1
        mrs     x6, fpsr
        mrs     x7, fpcr
        stp     x2, x3, [sp, #FRAME_PC]
        stp     x4, x5, [sp, #FRAME_ESR]
        stp     x6, x7, [sp, #FRAME_FPSR]
        save_vectors
.endm

.macro restore_arguments
        ldp     x2, x3, [sp, #(FRAME_X + 16 * 1)]
        ldp     x4, x5, [sp, #(FRAME_X + 16 * 2)]
        ldp     x6, x7, [sp, #(FRAME_X + 16 * 3)]
        ldp     x8, x9, [sp, #(FRAME_X + 16 * 4)]
        ldp     x10, x11, [sp, #(FRAME_X + 16 * 5)]
        ldp     x12, x13, [sp, #(FRAME_X + 16 * 6)]
        ldp     x14, x15, [sp, #(FRAME_X + 16 * 7)]
        ldp     x16, x17, [sp, #(FRAME_X + 16 * 8)]
.endm

.macro restore_vectors
        ldp     q0, q1, [sp, #(FRAME_Q + 32 * 0)]
        ldp     q2, q3, [sp, #(FRAME_Q + 32 * 1)]
        ldp     q4, q5, [sp, #(FRAME_Q + 32 * 2)]
        ldp     q6, q7, [sp, #(FRAME_Q + 32 * 3)]
        ldp     q8, q9, [sp, #(FRAME_Q + 32 * 4)]
        ldp     q10, q11, [sp, #(FRAME_Q + 32 * 5)]
        ldp     q12, q13, [sp, #(FRAME_Q + 32 * 6)]
        ldp     q14, q15, [sp, #(FRAME_Q + 32 * 7)]
        ldp     q16, q17, [sp, #(FRAME_Q + 32 * 8)]
        ldp     q18, q19, [sp, #(FRAME_Q + 32 * 9)]
        ldp     q20, q21, [sp, #(FRAME_Q + 32 * 10)]
        ldp     q22, q23, [sp, #(FRAME_Q + 32 * 11)]
        ldp     q24, q25, [sp, #(FRAME_Q + 32 * 12)]
        ldp     q26, q27, [sp, #(FRAME_Q + 32 * 13)]
        ldp     q28, q29, [sp, #(FRAME_Q + 32 * 14)]
        ldp     q30, q31, [sp, #(FRAME_Q + 32 * 15)]
.endm

// x1 = ESR_EL1; x0 and x1 are saved.
data_abort:
        save_arguments
        stp     x18, x30, [sp, #(FRAME_X + 16 * 9)]     // until `save` overwrites them
        save_vectors
        mrs     x0, far_el1
        bl      data_abort_resolved
        restore_vectors
        restore_arguments
        ldp     x18, x30, [sp, #(FRAME_X + 16 * 9)]
        cbz     w0, 1f
        ldp     x0, x1, [sp, #(FRAME_X + 16 * 0)]
        add     sp, sp, #FRAME_SIZE
        eret
1:      mov     x1, #0
        b       save

save_nested:
        str     x30, [sp, #(FRAME_X + 240)]
        save_registers
        mov     x0, sp
        bl      exception_nested                // does not return

save:
        mrs     x0, sp_el0
        stp     x30, x0, [sp, #(FRAME_X + 240)]
        save_registers
        mov     x0, sp
        bl      exception_taken

        restore_vectors
        ldp     x30, x0, [sp, #(FRAME_X + 240)]
        ldp     x2, x3, [sp, #FRAME_PC]
        ldp     x6, x7, [sp, #FRAME_FPSR]
        msr     sp_el0, x0
        msr     elr_el1, x2
        msr     spsr_el1, x3
        msr     fpsr, x6
        msr     fpcr, x7
        ldp     x0, x1, [sp, #(FRAME_X + 16 * 0)]
        restore_arguments
        ldp     x18, x19, [sp, #(FRAME_X + 16 * 9)]
        ldp     x20, x21, [sp, #(FRAME_X + 16 * 10)]
        ldp     x22, x23, [sp, #(FRAME_X + 16 * 11)]
        ldp     x24, x25, [sp, #(FRAME_X + 16 * 12)]
        ldp     x26, x27, [sp, #(FRAME_X + 16 * 13)]
        ldp     x28, x29, [sp, #(FRAME_X + 16 * 14)]
        add     sp, sp, #FRAME_SIZE
        eret
