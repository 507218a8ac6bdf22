;; Its element segment does not fit; so its data is never copied.
(module
  (import "provider" "memory" (memory 1))
  (import "provider" "table" (table 1 funcref))
  (elem (i32.const 4) func $nine)
  (data (i32.const 300) "lost")
  (func $nine (result i32) (i32.const 9)))
