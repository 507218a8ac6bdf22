;; What every process runs. It writes what is its process's own into every page that it gets, and looks each
;; time whether all is as it left it.
(module
  (import "kernel" "own" (func $own (result i64)))   ;; the word at the address that each process has for itself
  (import "kernel" "meet" (func $meet))              ;; returns when as many have come as there are processes
  (memory (export "memory") 2 32)
  (data (i32.const 0x400) "allottedallottedallottedallotted")

  ;; How many words of a page are something else.
  (func $differ (param $page i32) (param $word i64) (result i32)
    (local $at i32) (local $end i32) (local $found i32)
    (local.set $at (i32.shl (local.get $page) (i32.const 16)))
    (local.set $end (i32.add (local.get $at) (i32.const 0x10000)))
    (loop $next
      (local.set $found
        (i32.add (local.get $found) (i64.ne (i64.load (local.get $at)) (local.get $word))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (local.get $found))

  (func $fill (param $page i32) (param $word i64)
    (local $at i32) (local $end i32)
    (local.set $at (i32.shl (local.get $page) (i32.const 16)))
    (local.set $end (i32.add (local.get $at) (i32.const 0x10000)))
    (loop $next
      (i64.store (local.get $at) (local.get $word))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; What is written into a page: whose it is, and which.
  (func $mark (param $page i32) (result i64)
    (i64.add (i64.mul (call $own) (i64.const 1000)) (i64.extend_i32_u (local.get $page))))

  ;; How many of the image's four words are missing.
  (func $missing (result i32)
    (local $at i32) (local $found i32)
    (local.set $at (i32.const 0x400))
    (loop $next
      (local.set $found
        (i32.add (local.get $found)
          (i64.ne (i64.load (local.get $at)) (i64.const 0x646574746f6c6c61))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x420))))
    (local.get $found))

  ;; What the process has for itself.
  (func (export "own") (result i32) (i32.wrap_i64 (call $own)))

  ;; 0 for a memory as the module has it: its image, and zeros.
  (func (export "fresh") (result i32)
    (i32.add
      (i32.add (call $missing) (call $differ (i32.const 1) (i64.const 0)))
      (i32.sub (call $differ (i32.const 0) (i64.const 0)) (i32.const 4))))

  ;; Takes one page more. 0 if that has zeros, and all others are as they were left.
  (func $turn (export "turn") (result i32)
    (local $page i32) (local $new i32) (local $wrong i32)
    (local.set $new (memory.grow (i32.const 1)))
    (local.set $wrong
      (i32.add (call $missing) (call $differ (local.get $new) (i64.const 0))))
    (call $fill (local.get $new) (call $mark (local.get $new)))
    (local.set $page (i32.const 2))
    (loop $next
      (local.set $wrong
        (i32.add (local.get $wrong) (call $differ (local.get $page) (call $mark (local.get $page)))))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $page) (local.get $new))))
    (local.get $wrong))

  ;; The same between two meetings: all processes are in it at once.
  (func (export "together") (result i32)
    (local $wrong i32)
    (call $meet)
    (local.set $wrong (call $turn))
    (call $meet)
    (local.get $wrong))

  ;; Meets the others, and loads what is past the end.
  (func (export "stray") (result i32)
    (call $meet)
    (i32.load (i32.shl (memory.size) (i32.const 16)))))
