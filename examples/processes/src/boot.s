// From PVH's entry, and from start-up interrupts, to `cpu_start` in the upper half.
//
//   CPU 0      pvh_start  (32 bits) --.
//   CPU 1..    trampoline (16 bits) --+-> common: paging on, 64 bits, a number, a stack -> cpu_start
//
// All but the trampoline's copy runs here, at its physical address, which `boot_root` maps as well.

.set KERNEL, 0xffffffff80000000

.section .boot, "awx"

// The first root. Nothing in it is any process's, and the window is not in it either.
.balign 4096
.global boot_root
boot_root:
    .quad physical + 3                              // where it is, for this file
    .skip 255 * 8
    .quad physical + 3 + (1 << 63)                  // 0xffff800000000000: never executable
    .skip 254 * 8
    .quad kernel + 3                                // 0xffffff8000000000: the kernel's image
.balign 4096
physical:
    .set table, 0
    .rept 4
    .quad physical_pages + table + 3
    .set table, table + 4096
    .endr
    .skip 508 * 8
.balign 4096
physical_pages:                                     // 4 GiB: writable, 2 MiB pages
    .set page, 0x83
    .rept 4 * 512
    .quad page
    .set page, page + 0x200000
    .endr
.balign 4096
kernel:
    .skip 510 * 8
    .quad image_pages + 3
    .skip 8
.balign 4096
.global image_pages
image_pages:                                        // 16 MiB; `memory.rs` sets the rights
    .set page, 0x83
    .rept 8
    .quad page
    .set page, page + 0x200000
    .endr
    .skip 504 * 8

.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff                        // 8: code, 64 bits
    .quad 0x00cf92000000ffff                        // 16: data
    .quad 0x00cf9a000000ffff                        // 24: code, 32 bits
boot_gdt_pointer:
    .short 31
    .long boot_gdt
cpus_arrived:
    .long 0

.code32
.global pvh_start
pvh_start:
    cli
    cld
    mov esi, ebx                                    // physical address of the start info
common:
    mov eax, cr4
    or eax, 0x40620                                 // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    mov cr4, eax
    mov eax, offset boot_root
    mov cr3, eax
    xor ecx, ecx
    xor edx, edx
    mov eax, 7                                      // x87, SSE, AVX
    xsetbv
    mov ecx, 0xc0000080                             // EFER
    rdmsr
    or eax, 0x900                                   // LME, NXE
    wrmsr
    mov eax, cr0
    and eax, 0x9ffffff3                             // not EM, TS, CD, NW
    or eax, 0x80010022                              // PG, WP, NE, MP
    mov cr0, eax
    fninit
    lgdt [boot_gdt_pointer]
    .byte 0xea                                      // jmp 8:long_mode
    .long long_mode
    .short 8

.code64
long_mode:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov edi, 1
    lock xadd [rip + cpus_arrived], edi             // numbers in the order of arrival
    cmp edi, {CPUS}
    jae 1f
    lea rax, [rdi + 1]
    imul rax, rax, {STACK_SIZE}
    movabs rsp, offset {STACKS}
    add rsp, rax
    xor ebp, ebp
    movabs rax, offset {cpu_start}
    call rax                                        // cpu_start(number, start info)
1:  cli
    hlt
    jmp 1b

.code32
started:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor esi, esi
    jmp common

// Copied to a page of the first MiB, where a start-up interrupt begins in real mode.
.code16
.balign 8
.global trampoline
trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16                    // lgdt [trampoline_gdt - trampoline], 32 bits
    .short trampoline_gdt - trampoline
    mov eax, cr0
    or al, 1                                        // PE
    mov cr0, eax
    .byte 0x66, 0xea                                // jmp 24:started
    .long started
    .short 24
trampoline_gdt:
    .short 31
    .long boot_gdt
.global trampoline_end
trampoline_end:

.code64
.text
