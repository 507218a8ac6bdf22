;; Its second data segment does not fit; its first does, and stays.
(module
  (import "provider" "memory" (memory 1))
  (import "provider" "table" (table 1 funcref))
  (elem (i32.const 3) func $nine)
  (data (i32.const 200) "kept")
  (data (i32.const 65535) "xy")
  (func $nine (result i32) (i32.const 9)))
