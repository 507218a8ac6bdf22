// From PVH's entry to Rust.
//
// PVH (Xen's docs/misc/pvh.pandoc) enters in 32-bit protected mode with flat segments, paging off,
// ebx = physical address of hvm_start_info, and no stack. This file leaves with
//
//   long mode, own GDT      CR0.WP, EFER.NXE: page rights hold in ring 0 too
//   4 GiB mapped, identity  2 MiB pages, all rights; Rust builds the map that stays
//   CR4.LA57                if the command line has the word `la57`
//   SSE and AVX on          XCR0 = 7: x87, SSE, AVX, all that handlers save
//
// The CPU is asked first: without one of these features the rest would end in a triple fault.

.set BOOT_XCR0, 7

.section .note.pvh, "a", @note
.balign 4
    .long 4                     // length of the name
    .long 4                     // length of the content
    .long 18                    // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long _start

.section .data.boot, "aw"
.balign 8
.global boot_entry_ticks
boot_entry_ticks:
    .quad 0

.section .text.boot, "ax"
.code32
.global _start
_start:
    cli
    cld
    mov esp, offset __stack_top
    mov esi, ebx                // hvm_start_info; nothing below touches esi
    call boot_check_cpu
    call boot_wants_la57
    mov ebp, eax                // nothing below touches ebp
    rdtsc                       // firmware ran before: what it took is not the kernel's
    mov [boot_entry_ticks], eax
    mov [boot_entry_ticks + 4], edx

    mov edi, offset __bss_start
    mov ecx, offset __bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    // Page tables: one entry each in the upper two levels' first tables, four directories of 512 large pages.
    mov dword ptr [boot_pml4], offset boot_pdpt + 3
    mov ecx, 4
    mov eax, offset boot_pd + 3
    mov edi, offset boot_pdpt
1:  mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 1b
    mov ecx, 2048
    mov eax, 0x83               // present, writable, large
    mov edi, offset boot_pd
1:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop 1b

    mov dword ptr [boot_pml5], offset boot_pml4 + 3

    mov eax, cr4
    or eax, 0x40620             // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    mov ecx, offset boot_pml4
    test ebp, ebp
    jz 1f
    or eax, 0x1000              // LA57: a fifth level above
    mov ecx, offset boot_pml5
1:  mov cr4, eax
    mov cr3, ecx
    xor ecx, ecx
    xor edx, edx
    mov eax, BOOT_XCR0
    xsetbv
    mov ecx, 0xc0000080         // EFER
    rdmsr
    or eax, 0x900               // LME, NXE
    wrmsr
    mov eax, cr0
    and eax, 0x9ffffff3         // not EM, TS, CD, NW
    or eax, 0x80010022          // PG, WP, NE, MP
    mov cr0, eax
    fninit                      // a reset leaves another control word

    lgdt [boot_gdt_pointer]
    mov eax, 8
    push eax
    mov eax, offset boot_start64
    push eax
    retf

.code64
boot_start64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov ecx, 0xc0000101         // IA32_GS_BASE: CPU 0's own, from the first fault on
    mov eax, offset CPUS_OWN
    xor edx, edx
    wrmsr
    mov rsp, offset __stack_top
    xor ebp, ebp                // the outermost frame record has no caller
    mov edi, esi                // clears the upper half too
    call arch_start
2:  hlt
    jmp 2b

// Returns if the CPU has every feature in the table. Keeps esi.
.code32
boot_check_cpu:
    mov edi, offset boot_features
1:  mov eax, [edi]
    cmp eax, -1
    je 2f
    and eax, 0x80000000
    cpuid                       // eax: the last leaf of this range
    cmp eax, [edi]
    jb boot_cpu_lacks
    mov eax, [edi]
    xor ecx, ecx
    cpuid
    test dword ptr [edi + 4], -1
    jnz 3f
    mov edx, ecx
3:  mov ecx, [edi + 8]
    bt edx, ecx
    jnc boot_cpu_lacks
    add edi, 16
    jmp 1b
2:  ret

boot_cpu_lacks:
    mov ebx, offset boot_lacks_before
    call boot_print
    mov ebx, [edi + 12]
    call boot_print
    mov ebx, offset boot_lacks_after
    jmp boot_fail

boot_cpu_lacks_la57:
    mov ebx, offset boot_lacks_la57
boot_fail:
    call boot_print
    mov edx, 0xf4               // isa-debug-exit: the machine failed
    mov eax, 0x11
    out dx, eax
1:  hlt
    jmp 1b

// eax: whether the command line (hvm_start_info, esi) has the word `la57`. Does not return if the CPU
// knows nothing of that. Keeps esi.
boot_wants_la57:
    xor eax, eax
    cmp dword ptr [esi], 0x336ec578     // no start info: Rust says so
    jne 3f
    mov edi, [esi + 24]                 // the command line's address, low half
    test edi, edi
    jz 3f
1:  mov ecx, edi                        // the start of a word
2:  mov al, [edi]
    inc edi
    cmp al, ' '
    ja 2b                               // a byte of the word; its end is a space, a control or a zero
    lea edx, [edi - 5]
    cmp edx, ecx
    jne 4f
    cmp dword ptr [ecx], 0x3735616c     // "la57"
    je 5f
4:  test al, al
    jnz 1b
    xor eax, eax
3:  ret
5:  xor eax, eax
    cpuid
    cmp eax, 7
    jb boot_cpu_lacks_la57
    mov eax, 7
    xor ecx, ecx
    cpuid
    bt ecx, 16
    jnc boot_cpu_lacks_la57
    mov eax, 1
    ret

// Prints the string at ebx on COM1.
boot_print:
    mov edx, 0x3fd              // line status
1:  in al, dx
    test al, 0x20               // room for a byte
    jz 1b
    mov al, [ebx]
    test al, al
    jz 2f
    mov edx, 0x3f8
    out dx, al
    inc ebx
    jmp boot_print
2:  ret

.section .rodata.boot, "a"
.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // 8: 64-bit code
    .quad 0x00cf93000000ffff    // 16: data
    .quad 0x00cf9b000000ffff    // 24: 32-bit code, for CPUs on their way
boot_gdt_pointer:
    .short . - boot_gdt - 1
    .long boot_gdt

// What the kernel cannot do without: CPUID leaf, 1 for edx or 0 for ecx, bit, name.
.balign 4
boot_features:
    .long 0x80000001, 1, 29, boot_name_lm
    .long 0x80000001, 1, 20, boot_name_nx
    .long 1, 1, 4, boot_name_tsc
    .long 1, 0, 26, boot_name_xsave
    .long 1, 0, 28, boot_name_avx
    .long -1
boot_name_lm:    .asciz "64-bit mode (LM)"
boot_name_nx:    .asciz "no-execute pages (NX)"
boot_name_tsc:   .asciz "a time stamp counter (TSC)"
boot_name_xsave: .asciz "XSAVE"
boot_name_avx:   .asciz "AVX"
boot_lacks_la57: .asciz "allotment: `la57` on the command line asks for 57-bit addresses, which this CPU lacks; leave the word out or choose another model, such as -cpu max\nallotment: machine failed\n"
boot_lacks_before: .asciz "allotment: this CPU lacks "
boot_lacks_after:  .asciz ", which the kernel needs; choose another model, such as -cpu max or -cpu Haswell\nallotment: machine failed\n"

.section .bss.boot, "aw", @nobits
.balign 4096
boot_pml5: .skip 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4 * 4096

.text
.code64
