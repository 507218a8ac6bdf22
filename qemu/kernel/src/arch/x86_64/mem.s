// memcpy, memmove, memset, memcmp and bcmp, 32 bytes at a time.
//
// The target is soft-float, so nothing else in the kernel touches vector registers. Wasm code keeps nothing in
// them across a call, but it does across a fault: while one is being answered (this CPU's `interrupted` is not
// null) they stay as they are, and bytes go one by one.
// `vzeroupper` ends each use of ymm: wasm may be compiled to SSE instructions, which are slow while upper halves are in use.
//
// Up to 32 bytes: loads that may overlap, all before any store, hence good for memmove too. No vectors.
// 33 and more: whole steps of 32 and a last block that may overlap them and is loaded first.

.section .text.mem, "ax"

// rax = destination; rdi, rsi, rdx as given; at most 32 bytes. Returns from the function.
.macro small_copy
    cmp edx, 16
    jae 3f
    cmp edx, 8
    jae 2f
    cmp edx, 4
    jae 1f
    test edx, edx
    jz 9f
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    shr edx                     // 0 for one byte, 1 for two or three
    movzx r9d, byte ptr [rsi + rdx]
    mov [rdi + rdx], r9b
    adc rdx, rdx                // restores rdx: the carry is the bit shifted out
    mov [rdi], cl
    mov [rdi + rdx - 1], r8b
9:  ret
1:  mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
2:  mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
3:  mov rcx, [rsi]
    mov r8, [rsi + 8]
    mov r9, [rsi + rdx - 16]
    mov r10, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + 8], r8
    mov [rdi + rdx - 16], r9
    mov [rdi + rdx - 8], r10
    ret
.endm

// Goes elsewhere while an exception is being answered.
.macro if_answering elsewhere
    cmp qword ptr gs:[INTERRUPTED], 0   // as in vectors.s
    jne \elsewhere
.endm

// Moves 256 bytes, all loaded before the first is stored.
.macro copy_forward_256 at
    vmovdqu ymm0, [rsi + \at]
    vmovdqu ymm1, [rsi + \at + 32]
    vmovdqu ymm2, [rsi + \at + 64]
    vmovdqu ymm3, [rsi + \at + 96]
    vmovdqu ymm4, [rsi + \at + 128]
    vmovdqu ymm5, [rsi + \at + 160]
    vmovdqu ymm6, [rsi + \at + 192]
    vmovdqu ymm7, [rsi + \at + 224]
    vmovdqu [rdi + \at], ymm0
    vmovdqu [rdi + \at + 32], ymm1
    vmovdqu [rdi + \at + 64], ymm2
    vmovdqu [rdi + \at + 96], ymm3
    vmovdqu [rdi + \at + 128], ymm4
    vmovdqu [rdi + \at + 160], ymm5
    vmovdqu [rdi + \at + 192], ymm6
    vmovdqu [rdi + \at + 224], ymm7
.endm

// Clears or fills 256 bytes.
.macro fill_256 at
    vmovdqu [rdi + \at], ymm0
    vmovdqu [rdi + \at + 32], ymm0
    vmovdqu [rdi + \at + 64], ymm0
    vmovdqu [rdi + \at + 96], ymm0
    vmovdqu [rdi + \at + 128], ymm0
    vmovdqu [rdi + \at + 160], ymm0
    vmovdqu [rdi + \at + 192], ymm0
    vmovdqu [rdi + \at + 224], ymm0
.endm

.balign 16
.global memcpy
.type memcpy, @function
memcpy:
    mov rax, rdi
    cmp rdx, 32
    ja copy_forward
    small_copy
.size memcpy, . - memcpy

// Ascending. The last 32 bytes are loaded first and stored last, so that a destination below an
// overlapping source is right too: each step loads what no earlier step has stored to.
.balign 16
copy_forward:
    if_answering 7f
    vmovdqu ymm15, [rsi + rdx - 32]
    lea r9, [rdi + rdx - 32]    // where they go
    sub rdx, 1024
    jb 2f
1:  copy_forward_256 0
    copy_forward_256 256
    copy_forward_256 512
    copy_forward_256 768
    add rsi, 1024
    add rdi, 1024
    sub rdx, 1024
    jae 1b
2:  add rdx, 1024 - 128
    jnc 4f
3:  vmovdqu ymm0, [rsi]
    vmovdqu ymm1, [rsi + 32]
    vmovdqu ymm2, [rsi + 64]
    vmovdqu ymm3, [rsi + 96]
    vmovdqu [rdi], ymm0
    vmovdqu [rdi + 32], ymm1
    vmovdqu [rdi + 64], ymm2
    vmovdqu [rdi + 96], ymm3
    add rsi, 128
    add rdi, 128
    sub rdx, 128
    jae 3b
4:  add rdx, 128 - 32
    jle 6f                      // at most 32 left: the last block has them
5:  vmovdqu ymm0, [rsi]
    vmovdqu [rdi], ymm0
    add rsi, 32
    add rdi, 32
    sub rdx, 32
    jg 5b
6:  vmovdqu [r9], ymm15
    vzeroupper
    ret
7:  mov rcx, rdx
    rep movsb
    ret

.balign 16
.global memmove
.type memmove, @function
memmove:
    mov rax, rdi
    cmp rdx, 32
    ja 4f
    small_copy
4:  mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx                // unsigned: is the destination inside the source, past its start?
    jae copy_forward
// Descending; the first 32 bytes are loaded first and stored last.
    if_answering 7f
    vmovdqu ymm15, [rsi]
    sub rdx, 32
1:  sub rdx, 128
    jb 2f
    vmovdqu ymm0, [rsi + rdx + 128]
    vmovdqu ymm1, [rsi + rdx + 96]
    vmovdqu ymm2, [rsi + rdx + 64]
    vmovdqu ymm3, [rsi + rdx + 32]
    vmovdqu [rdi + rdx + 128], ymm0
    vmovdqu [rdi + rdx + 96], ymm1
    vmovdqu [rdi + rdx + 64], ymm2
    vmovdqu [rdi + rdx + 32], ymm3
    jmp 1b
2:  add rdx, 128
    jz 6f
5:  vmovdqu ymm0, [rsi + rdx]
    vmovdqu [rdi + rdx], ymm0
    sub rdx, 32
    ja 5b
6:  vmovdqu [rax], ymm15
    vzeroupper
    ret
7:  lea rsi, [rsi + rdx - 1]
    lea rdi, [rdi + rdx - 1]
    mov rcx, rdx
    std
    rep movsb
    cld
    ret
.size memmove, . - memmove

.balign 16
.global memset
.type memset, @function
memset:
    mov rax, rdi
    movzx esi, sil
    mov rcx, 0x0101010101010101
    imul rsi, rcx               // the byte, eight times
    cmp rdx, 32
    ja 4f
    cmp edx, 16
    jae 3f
    cmp edx, 8
    jae 2f
    cmp edx, 4
    jae 1f
    test edx, edx
    jz 11f
    mov [rdi], sil
    mov [rdi + rdx - 1], sil
    shr edx
    mov [rdi + rdx], sil
11: ret
1:  mov [rdi], esi
    mov [rdi + rdx - 4], esi
    ret
2:  mov [rdi], rsi
    mov [rdi + rdx - 8], rsi
    ret
3:  mov [rdi], rsi
    mov [rdi + 8], rsi
    mov [rdi + rdx - 16], rsi
    mov [rdi + rdx - 8], rsi
    ret
4:  if_answering 12f
    vmovq xmm0, rsi
    vpunpcklqdq xmm0, xmm0, xmm0
    vinsertf128 ymm0, ymm0, xmm0, 1
    vmovdqu [rdi + rdx - 32], ymm0
    sub rdx, 1024
    jb 6f
5:  fill_256 0
    fill_256 256
    fill_256 512
    fill_256 768
    add rdi, 1024
    sub rdx, 1024
    jae 5b
6:  add rdx, 1024 - 128
    jnc 8f
7:  vmovdqu [rdi], ymm0
    vmovdqu [rdi + 32], ymm0
    vmovdqu [rdi + 64], ymm0
    vmovdqu [rdi + 96], ymm0
    add rdi, 128
    sub rdx, 128
    jae 7b
8:  add rdx, 128 - 32
    jle 10f                     // at most 32 left: the last block is filled already
9:  vmovdqu [rdi], ymm0
    add rdi, 32
    sub rdx, 32
    jg 9b
10: vzeroupper
    ret
12: mov r8, rax
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
.size memset, . - memset

// Both: 0 if equal. Blocks first, then the block, quadword and byte that differ.
.balign 16
.global memcmp
.type memcmp, @function
.global bcmp
.type bcmp, @function
memcmp:
bcmp:
    xor ecx, ecx
1:  add rcx, 8
    cmp rcx, rdx
    ja 2f
    mov rax, [rdi + rcx - 8]
    mov r8, [rsi + rcx - 8]
    cmp rax, r8
    je 1b
    // The first byte that differs decides, which is the most significant once swapped.
    bswap rax
    bswap r8
    cmp rax, r8
    sbb eax, eax
    or eax, 1
    ret
2:  sub rcx, 8
3:  cmp rcx, rdx
    je 4f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 3b
    ret
4:  xor eax, eax
    ret
.size memcmp, . - memcmp

.text
