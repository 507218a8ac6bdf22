;; What others import: one of each kind.
(module
  (memory (export "memory") 1 3)
  (table (export "table") 4 8 funcref)
  (global $counter (export "counter") (mut i32) (i32.const 10))
  (global (export "base") i32 (i32.const 64))
  (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "counter_now") (result i32) (global.get $counter))
  (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0)))
  (func (export "table_size") (result i32) (table.size 0)))
