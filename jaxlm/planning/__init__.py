"""What a run would be on a machine that is not there. In: a Run and a target's name. Out: memory, traffic, time.

`targets` (names of machines) → `program` (the run on described devices) → `memory` (bytes, from shapes alone) and
`compiled` (the real step through the TPU compiler, in a process of its own; `hlo` reads what it made) → `roofline`
(seconds) → `table`; `search` and `fitting` look for other settings. Nothing is read: neither corpus nor tokenizer.
Guarantee: what is estimated is called so, and what is not known is left out.
"""
