;; What the benchmark calls: nothing, an access out of bounds, and growth.
(module
  (memory (export "memory") 1)
  (func (export "out_of_bounds") (drop (i32.load (i32.const 0x10000))))
  (func (export "nothing"))
  ;; Grows by one page as often as told; returns the size in pages.
  (func (export "grow") (param $times i32) (result i32)
    (loop $next
      (drop (memory.grow (i32.const 1)))
      (br_if $next (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    memory.size))
