;; Needs a function that no host here has.
(module
  (import "elsewhere" "wanted" (func $wanted (param i32) (result i64)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $wanted (i32.const 1)))))
