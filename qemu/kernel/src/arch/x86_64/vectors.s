// Exceptions: from the CPU to `exception_entry` (or `interrupt_entry`, `timer_entry`) and back.
//
// Every vector has an interrupt stack of its own choice (see exception.rs), so that the frame
// always lies at the same place and the interrupted stack pointer does not matter:
//
//   top of the interrupt stack
//     ss rsp rflags cs rip       pushed by the CPU (SDM Vol. 3A, 7.14.2)
//     error code                 pushed by the CPU, or a 0 by the stub
//     vector                     pushed by the stub
//     rax .. r15                 `Frame` starts at the last one
//     XSAVE area                 64-byte aligned
//     exception_entry's frame
//
// All vector state is saved, so that a hook may do with it what it likes.
//
// A load or store that a resolver can answer pays for none of this:
//
//   #PF -> page_fault       this CPU's `interrupted` says RESOLVING
//            `- resolver    with the nine registers saved that a call may change
//                 |- true   restored, iretq: the access is tried again
//                 `- false  restored, and from here on an exception like any other
//
// No vector register changes on the way: the target is soft-float, and `mem.s` leaves them alone while
// `interrupted` is not null.

.set INTERRUPTED, 8                   // in what `gs` points to (`Own`, cpus.rs)
.set RESOLVING, 1                     // no frame (exception.rs)
.set FETCH, 1 << 4                    // of a page fault's error code (SDM Vol. 3A, 5.7)
.set XSAVE_FEATURES, 7                // as in XCR0: x87, SSE, AVX
.set XSAVE_AREA, 832                  // XSAVE area for these (SDM Vol. 1, 13.4): 512 + 64 + 256

.section .text.vectors, "ax"

// Sixteen bytes per vector.
.macro exception_stub vector, code
    .balign 16
    .if \code == 0
    push 0
    .endif
    push \vector
    jmp exception_common
.endm

.balign 16
.global exception_stubs
exception_stubs:
    exception_stub 0, 0
    exception_stub 1, 0
    .balign 16                          // a non-maskable interrupt
    push 0
    push 2
    jmp interrupt_common
    exception_stub 3, 0
    exception_stub 4, 0
    exception_stub 5, 0
    exception_stub 6, 0
    exception_stub 7, 0
    exception_stub 8, 1
    exception_stub 9, 0
    exception_stub 10, 1
    exception_stub 11, 1
    exception_stub 12, 1
    exception_stub 13, 1
    .balign 16
    jmp page_fault
    exception_stub 15, 0
    exception_stub 16, 0
    exception_stub 17, 1
    exception_stub 18, 0
    exception_stub 19, 0
    exception_stub 20, 0
    exception_stub 21, 1
    exception_stub 22, 0
    exception_stub 23, 0
    exception_stub 24, 0
    exception_stub 25, 0
    exception_stub 26, 0
    exception_stub 27, 0
    exception_stub 28, 0
    exception_stub 29, 1
    exception_stub 30, 1
    exception_stub 31, 0
    .balign 16                          // the timer
    push 0
    push 32
    jmp timer_common
    .balign 16                          // a spurious interrupt, which is not even acknowledged
    iretq

// A page fault: asked about first, and where that does not help, taken as the other exceptions are. One that a
// handler has raised is not asked about: this is the stack on which that handler runs.
.balign 16
page_fault:
    test byte ptr [rsp], FETCH          // the error code
    jnz 1f
    cmp qword ptr gs:[INTERRUPTED], 0
    jne 1f
    mov qword ptr gs:[INTERRUPTED], RESOLVING
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    sub rsp, 8                          // a call's stack is aligned; the CPU has aligned it before its six words
    cld
    mov rdi, cr2
    mov esi, [rsp + 80]                 // the error code, of which bit 1 says that it was a write
    shr esi
    and esi, 1
    call [EXCEPTION_RESOLVER]
    mov qword ptr gs:[INTERRUPTED], 0
    add rsp, 8
    test al, al
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    jz 1f
    add rsp, 8
    iretq
1:  push 14
    jmp exception_common

// Saves, calls and restores. An interrupt of another CPU may come while an exception is being
// answered; all that happens here is on its own stack.
.macro answer handler
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    mov rbx, rsp
    sub rsp, XSAVE_AREA
    and rsp, -64
    // The header must be 0 but for what XSAVE writes there (SDM Vol. 1, 13.7 and 13.8.1).
    xor edx, edx
    mov [rsp + 512], rdx
    mov [rsp + 520], rdx
    mov [rsp + 528], rdx
    mov [rsp + 536], rdx
    mov [rsp + 544], rdx
    mov [rsp + 552], rdx
    mov [rsp + 560], rdx
    mov [rsp + 568], rdx
    mov eax, XSAVE_FEATURES
    xsave64 [rsp]
    call \handler
    xor edx, edx
    mov eax, XSAVE_FEATURES
    xrstor64 [rsp]
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
    iretq
.endm

.balign 16
exception_common:
    answer exception_entry

.balign 16
interrupt_common:
    answer interrupt_entry

.balign 16
timer_common:
    answer timer_entry

.text
