// The five functions that compilers call for memory, with 32 bytes a load.
//
// Unaligned accesses and overlapping first and last chunks take the place of loops over
// odd bytes. Normal memory only: the MMU is on before any of these runs, and no caller
// passes device memory.

.section .text.mem, "ax"

// memcpy(x0 to, x1 from, x2 bytes) and memmove alike. Everything up to 128 bytes is loaded
// before anything is stored; beyond, the direction is chosen so that no byte is overwritten
// before it is read.
.global memcpy
.global memmove
.type memcpy, %function
.type memmove, %function
.balign 16
memcpy:
memmove:
        add     x4, x1, x2                      // ends
        add     x5, x0, x2
        cmp     x2, #16
        b.lo    2f
        cmp     x2, #32
        b.hi    1f
        ldr     q0, [x1]
        ldr     q1, [x4, #-16]
        str     q0, [x0]
        str     q1, [x5, #-16]
        ret
1:      cmp     x2, #64
        b.hi    5f
        ldp     q0, q1, [x1]
        ldp     q2, q3, [x4, #-32]
        stp     q0, q1, [x0]
        stp     q2, q3, [x5, #-32]
        ret
2:      tbz     x2, #3, 3f                      // 8 to 15
        ldr     x6, [x1]
        ldr     x7, [x4, #-8]
        str     x6, [x0]
        str     x7, [x5, #-8]
        ret
3:      tbz     x2, #2, 4f                      // 4 to 7
        ldr     w6, [x1]
        ldr     w7, [x4, #-4]
        str     w6, [x0]
        str     w7, [x5, #-4]
        ret
4:      cbz     x2, 6f                          // 1 to 3: first, middle, last
        lsr     x8, x2, #1
        ldrb    w6, [x1]
        ldrb    w7, [x1, x8]
        ldrb    w9, [x4, #-1]
        strb    w6, [x0]
        strb    w7, [x0, x8]
        strb    w9, [x5, #-1]
6:      ret
5:      cmp     x2, #128
        b.hi    7f
        ldp     q0, q1, [x1]
        ldp     q2, q3, [x1, #32]
        ldp     q4, q5, [x4, #-64]
        ldp     q6, q7, [x4, #-32]
        stp     q0, q1, [x0]
        stp     q2, q3, [x0, #32]
        stp     q4, q5, [x5, #-64]
        stp     q6, q7, [x5, #-32]
        ret

        // Backwards only when `to` lies inside [from, from + bytes).
7:      sub     x6, x0, x1
        cmp     x6, x2
        b.lo    9f
        mov     x3, x0
        // The last 128 bytes, or part of them, go last but are read first.
        ldp     q16, q17, [x4, #-128]
        ldp     q18, q19, [x4, #-96]
        ldp     q20, q21, [x4, #-64]
        ldp     q22, q23, [x4, #-32]
8:      ldp     q0, q1, [x1], #32
        ldp     q2, q3, [x1], #32
        ldp     q4, q5, [x1], #32
        ldp     q6, q7, [x1], #32
        sub     x2, x2, #128
        stp     q0, q1, [x3], #32
        stp     q2, q3, [x3], #32
        stp     q4, q5, [x3], #32
        stp     q6, q7, [x3], #32
        cmp     x2, #128
        b.hi    8b
        stp     q16, q17, [x5, #-128]
        stp     q18, q19, [x5, #-96]
        stp     q20, q21, [x5, #-64]
        stp     q22, q23, [x5, #-32]
        ret

9:      ldp     q16, q17, [x1]
        ldp     q18, q19, [x1, #32]
        ldp     q20, q21, [x1, #64]
        ldp     q22, q23, [x1, #96]
10:     ldp     q0, q1, [x4, #-32]!
        ldp     q2, q3, [x4, #-32]!
        ldp     q4, q5, [x4, #-32]!
        ldp     q6, q7, [x4, #-32]!
        sub     x2, x2, #128
        stp     q0, q1, [x5, #-32]!
        stp     q2, q3, [x5, #-32]!
        stp     q4, q5, [x5, #-32]!
        stp     q6, q7, [x5, #-32]!
        cmp     x2, #128
        b.hi    10b
        stp     q16, q17, [x0]
        stp     q18, q19, [x0, #32]
        stp     q20, q21, [x0, #64]
        stp     q22, q23, [x0, #96]
        ret
.size memcpy, . - memcpy
.size memmove, . - memmove

// memset(x0 to, w1 byte, x2 bytes)
.global memset
.type memset, %function
.balign 16
memset:
        dup     v0.16b, w1
        add     x5, x0, x2
        cmp     x2, #16
        b.lo    2f
        str     q0, [x0]
        str     q0, [x5, #-16]
        cmp     x2, #32
        b.ls    4f
        cmp     x2, #64
        b.hi    1f
        str     q0, [x0, #16]
        str     q0, [x5, #-32]
        ret
1:      mov     v1.16b, v0.16b
        stp     q0, q1, [x5, #-64]
        stp     q0, q1, [x5, #-32]
        mov     x3, x0
        sub     x2, x2, #64                     // what the two above have not covered
5:      stp     q0, q1, [x3], #32
        stp     q0, q1, [x3], #32
        subs    x2, x2, #64
        b.hi    5b
        ret
2:      tbz     x2, #3, 3f
        str     d0, [x0]
        str     d0, [x5, #-8]
        ret
3:      tbz     x2, #2, 6f
        str     s0, [x0]
        str     s0, [x5, #-4]
        ret
6:      cbz     x2, 4f
        lsr     x8, x2, #1
        strb    w1, [x0]
        strb    w1, [x0, x8]
        strb    w1, [x5, #-1]
4:      ret
.size memset, . - memset

// memcmp(x0 a, x1 b, x2 bytes) -> the difference of the first bytes that differ; `bcmp`
// promises less and is the same.
.global memcmp
.global bcmp
.type memcmp, %function
.type bcmp, %function
.balign 16
memcmp:
bcmp:
        cmp     x2, #8
        b.lo    6f
        add     x4, x0, x2
        add     x5, x1, x2
        subs    x2, x2, #32
        b.lo    2f
1:      ldp     q0, q1, [x0]
        ldp     q2, q3, [x1]
        eor     v0.16b, v0.16b, v2.16b
        eor     v1.16b, v1.16b, v3.16b
        orr     v0.16b, v0.16b, v1.16b
        umaxp   v0.4s, v0.4s, v0.4s
        fmov    x6, d0
        cbnz    x6, 3f                          // found: again in steps of 8
        add     x0, x0, #32
        add     x1, x1, #32
        subs    x2, x2, #32
        b.hs    1b
2:      adds    x2, x2, #32                     // 0 to 31 left, 8 or more in all
        b.eq    7f
        // Steps of 8 while more than 8 are left; then the last 8, which may overlap what is equal.
3:      sub     x8, x4, #8
4:      cmp     x0, x8
        b.hs    5f
        ldr     x6, [x0], #8
        ldr     x7, [x1], #8
        cmp     x6, x7
        b.eq    4b
        b       8f
5:      ldr     x6, [x8]
        ldr     x7, [x5, #-8]
        cmp     x6, x7
        b.eq    7f
8:      rev     x6, x6                          // the first byte in memory decides
        rev     x7, x7
        cmp     x6, x7
        mov     w0, #1
        cneg    w0, w0, lo
        ret
6:      cbz     x2, 7f
        ldrb    w6, [x0], #1
        ldrb    w7, [x1], #1
        sub     x2, x2, #1
        subs    w6, w6, w7
        b.eq    6b
        mov     w0, w6
        ret
7:      mov     w0, #0
        ret
.size memcmp, . - memcmp
.size bcmp, . - bcmp
