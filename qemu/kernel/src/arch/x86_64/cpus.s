// From a start-up interrupt to Rust, on CPUs 1 and up, and how these wait.
//
// A start-up interrupt enters in real mode at a page of the first MiB, to which `cpus.rs` copies what is
// between the first two labels. It leaves for the kernel's text at once: once paging is on, that page can
// not be executed. From there this does what `boot.s` did, with the boot CPU's values (`Handoff`) and
// with its page tables, which are the final ones.

.section .rodata.cpus, "a"
.code16
.global cpus_trampoline
cpus_trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16        // lgdt [40], with a base of 32 bits
    .short 40
    mov eax, cr0
    and eax, 0x9fffffff                 // not CD, NW
    or al, 1                            // PE
    mov cr0, eax
    .byte 0x66, 0xea                    // jmp 24:cpus_start32
    .long cpus_start32
    .short 24
    .org cpus_trampoline + 40
    .short 31
    .long boot_gdt
.global cpus_trampoline_end
cpus_trampoline_end:

.section .text.cpus, "ax"
.code32
cpus_start32:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, [{HANDOFF} + {CR4}]
    mov cr4, eax
    mov eax, [{HANDOFF} + {CR3}]
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER
    mov eax, [{HANDOFF} + {EFER}]
    mov edx, [{HANDOFF} + {EFER} + 4]
    wrmsr
    mov ecx, 0x277                      // IA32_PAT
    mov eax, [{HANDOFF} + {PAT}]
    mov edx, [{HANDOFF} + {PAT} + 4]
    wrmsr
    xor ecx, ecx
    mov eax, [{HANDOFF} + {XCR0}]
    mov edx, [{HANDOFF} + {XCR0} + 4]
    xsetbv
    mov eax, [{HANDOFF} + {CR0}]
    mov cr0, eax
    .byte 0xea                          // jmp 8:cpus_start64
    .long cpus_start64
    .short 8

.code64
cpus_start64:
    fninit
    // Numbers in the order of arrival. CPUs beyond those that are wanted stay here for good: nobody knows them.
    mov edi, 1
    lock xadd [{HANDOFF} + {NEXT}], rdi
    cmp rdi, [{HANDOFF} + {END}]
    jae 1f
    mov rsp, [{HANDOFF} + {STACKS} + rdi * 8]
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rax, rdi
    shl rax, 4
    add rax, offset {OWN}
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0xc0000101                 // IA32_GS_BASE
    wrmsr
    xor ebp, ebp                        // the outermost frame record has no caller
    call cpus_entry
1:  cli
    hlt
    jmp 1b

// void cpus_wait(const bool *until): halts until an interrupt comes, unless the byte is set. One that comes
// between the look and the halt would not end the halt: whatever comes in between goes on behind it
// (`exception.rs`), and the caller looks again.
.global cpus_wait
cpus_wait:
    cmp byte ptr [rdi], 0
    jne 1f
    hlt
.global cpus_wait_end
cpus_wait_end:
1:  ret

.text
