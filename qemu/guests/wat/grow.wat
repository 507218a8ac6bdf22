;; A memory without a maximum, to be grown until the machine has no more.
(module
  (memory (export "memory") 1)
  (func (export "size") (result i32) memory.size)
  ;; The old size in pages, or -1.
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  ;; Grows by single pages until that fails and returns how many there are then.
  (func (export "grow_to_the_end") (result i32)
    (loop $next
      (br_if $next (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    memory.size)
  ;; Writes the number of each page to its first and its last word, then reads them back. Returns how many
  ;; pages hold another number: 0.
  (func (export "touch_all") (result i32)
    (local $page i32) (local $base i32) (local $wrong i32)
    (loop $write
      (local.set $base (i32.shl (local.get $page) (i32.const 16)))
      (i32.store (local.get $base) (local.get $page))
      (i32.store offset=0xfffc (local.get $base) (local.get $page))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $write (i32.lt_u (local.get $page) (memory.size))))
    (local.set $page (i32.const 0))
    (loop $read
      (local.set $base (i32.shl (local.get $page) (i32.const 16)))
      (if (i32.or
            (i32.ne (i32.load (local.get $base)) (local.get $page))
            (i32.ne (i32.load offset=0xfffc (local.get $base)) (local.get $page)))
        (then (local.set $wrong (i32.add (local.get $wrong) (i32.const 1)))))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $read (i32.lt_u (local.get $page) (memory.size))))
    (local.get $wrong))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))
