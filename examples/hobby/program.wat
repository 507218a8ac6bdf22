;; What the kernel runs: it counts how often it was called, prints, and reads where it is told to.
(module
  (import "kernel" "print" (func $print (param i32 i32)))

  (memory (export "memory") 1 4)
  (data (i32.const 16) "hello from wasm, call 0")
  (global $text i32 (i32.const 16))
  (global $length i32 (i32.const 23))
  (global $digit i32 (i32.const 38))

  ;; Its count is a digit of the text: a new instance begins at 0 again.
  (func (export "greet")
    (i32.store8 (global.get $digit) (i32.add (i32.load8_u (global.get $digit)) (i32.const 1)))
    (call $print (global.get $text) (global.get $length)))

  (func (export "read") (param $address i32) (result i32)
    (i32.load (local.get $address)))

  (func (export "grow") (result i32)
    (memory.grow (i32.const 1))))
