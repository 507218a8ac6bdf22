;; A component of two core instances, each with a memory, which pass each other strings through the host.
(component
  (import "note" (func $note (param "text" string)))

  (core module $Memory
    (memory (export "memory") 1 4)
    (global $free (mut i32) (i32.const 0x8000))
    (func (export "realloc") (param i32 i32) (param $align i32) (param $bytes i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $bytes)))
      (local.get $at)))
  (core instance $memory (instantiate $Memory))
  (core func $note' (canon lower (func $note) (memory (core memory $memory "memory"))))

  (core module $Main
    (import "own" "memory" (memory 1 4))
    (import "host" "note" (func $note (param i32 i32)))
    (memory $second 1)
    (data (i32.const 16) "from the image")
    (data (memory $second) (i32.const 0xfff0) "0123456789abcdef")
    ;; The text's bytes added up, after the host was told of it.
    (func (export "sum") (param $at i32) (param $bytes i32) (result i32) (local $sum i32)
      (call $note (local.get $at) (local.get $bytes))
      (block $done
        (loop $next
          (br_if $done (i32.eqz (local.get $bytes)))
          (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
          (br $next)))
      (local.get $sum))
    ;; Where a result's text is, and its bytes.
    (func (export "image") (result i32)
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 14))
      (i32.const 0))
    (func (export "peek") (param $at i32) (result i32) (i32.load8_u $second (local.get $at)))
    (func (export "poke") (param $at i32) (i32.store8 $second (local.get $at) (i32.const 1)))
    (func (export "grow") (param $pages i32) (result i32) (memory.grow (local.get $pages))))
  (core instance $main (instantiate $Main
    (with "own" (instance $memory))
    (with "host" (instance (export "note" (func $note'))))))

  (func (export "sum") (param "text" string) (result u32)
    (canon lift (core func $main "sum") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "image") (result string)
    (canon lift (core func $main "image") (memory (core memory $memory "memory"))))
  (func (export "peek") (param "at" u32) (result u32) (canon lift (core func $main "peek")))
  (func (export "poke") (param "at" u32) (canon lift (core func $main "poke")))
  (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $main "grow"))))
