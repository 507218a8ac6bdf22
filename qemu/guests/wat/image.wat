;; Four pages with initial contents: at the start, across the first page boundary, and as the very last bytes.
(module
  (memory (export "memory") 4 8)
  (data (i32.const 0) "first bytes")
  (data (i32.const 0xfffc) "boundary")
  (data (i32.const 0x3fffb) "last!")
  (data $passive "passive")
  (global (export "counter") (mut i32) (i32.const 41))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  ;; Writes the seven bytes of the passive segment.
  (func (export "init") (param i32)
    (memory.init $passive (local.get 0) (i32.const 0) (i32.const 7)))
  (func (export "drop") (data.drop $passive)))
