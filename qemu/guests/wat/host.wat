;; Calls into the host that end in other ways than by returning.
(module
  ;; Returns an error.
  (import "host" "fail" (func $fail))
  ;; Uses up the host's stack.
  (import "host" "overflow" (func $overflow))
  ;; Calls this module's export "inner" and passes on how it ends.
  (import "host" "nest" (func $nest))
  (memory (export "memory") 1)
  (func (export "fail") (call $fail))
  (func (export "overflow") (call $overflow))
  (func (export "nest") (call $nest))
  (func (export "inner") (drop (i32.load (i32.const 0x10000)))))
