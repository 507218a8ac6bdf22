;; One page of memory with a maximum of 16, to be grown and touched from outside.
(module
  (memory (export "memory") 1 16)
  (func (export "size") (result i32) memory.size)
  ;; The old size in pages, or -1.
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  ;; The sum of all bytes.
  (func (export "sum") (result i64)
    (local $at i32) (local $end i32) (local $sum i64)
    (local.set $end (i32.shl (memory.size) (i32.const 16)))
    (loop $next (result i64)
      (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))
      (local.get $sum)))
  (func (export "fill") (param i32 i32 i32)
    (memory.fill (local.get 0) (local.get 1) (local.get 2))))
