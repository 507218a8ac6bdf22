;; A start function that sees the segments.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\05")
  (global $seen (export "seen") (mut i32) (i32.const 0))
  (func $start (global.set $seen (i32.load8_u (i32.const 0))))
  (start $start))
