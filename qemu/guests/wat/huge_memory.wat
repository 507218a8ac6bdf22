;; Starts with 4 GiB less one page: more than any arena here.
(module
  (memory (export "memory") 65535)
  (func (export "_start")))
