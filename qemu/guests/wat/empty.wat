;; Nothing at all, not even a memory.
(module (func (export "nothing")))
