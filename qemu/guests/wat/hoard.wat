;; Takes all it can get: a memory and a table without a maximum.
(module
  (memory (export "memory") 1)
  (table $table (export "table") 1 funcref)
  ;; The old size in elements, or -1.
  (func (export "grow_table") (param i32) (result i32)
    (table.grow $table (ref.null func) (local.get 0)))
  (func (export "table_size") (result i32) (table.size $table))
  ;; Writes a byte to each 4 KiB page from an address on, so many.
  (func (export "touch") (param $at i32) (param $pages i32)
    (loop $next
      (i32.store8 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (local.set $pages (i32.sub (local.get $pages) (i32.const 1)))
      (br_if $next (local.get $pages)))))
