;; Starts with a table that no heap here can hold.
(module (table (export "table") 1000000000 funcref))
