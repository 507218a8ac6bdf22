;; Two memories, the second with 64-bit addresses.
(module
  (memory $narrow (export "narrow") 1 2)
  (memory $wide (export "wide") i64 1 3)
  (data (memory $wide) (i64.const 8) "wide")
  (data (memory $narrow) (i32.const 8) "narrow")

  (func (export "load_narrow") (param i32) (result i32) (i32.load8_u $narrow (local.get 0)))
  (func (export "load_wide") (param i64) (result i32) (i32.load8_u $wide (local.get 0)))
  (func (export "load_wide_far") (param i64) (result i32)
    (i32.load8_u $wide offset=0xffffffffffff (local.get 0)))
  (func (export "store_wide") (param i64 i32) (i32.store8 $wide (local.get 0) (local.get 1)))
  (func (export "size_wide") (result i64) (memory.size $wide))
  (func (export "grow_wide") (param i64) (result i64) (memory.grow $wide (local.get 0)))
  (func (export "copy_to_narrow") (param i32 i64 i32)
    (memory.copy $narrow $wide (local.get 0) (local.get 1) (local.get 2)))
  (func (export "fill_wide") (param i64 i32 i64) (memory.fill $wide (local.get 0) (local.get 1) (local.get 2))))
