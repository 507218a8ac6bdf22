;; Counts its runs in memory, which begins as the same image for each instance; and ends in two other ways.
(module
  (import "host" "print" (func $print (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "run 0 of this instance")
  ;; Says which run of the instance it is.
  (func (export "run")
    (i32.store8 (i32.const 4) (i32.add (i32.load8_u (i32.const 4)) (i32.const 1)))
    (call $print (i32.const 0) (i32.const 22)))
  ;; Reads one byte past the end of the memory.
  (func (export "overrun") (drop (i32.load8_u (i32.const 65536))))
  ;; Never returns, and never ends by itself.
  (func $recurse (export "recurse") (call $recurse)))
