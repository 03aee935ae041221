"""What a model is trained on: one file is one objective, a host transform and a device loss.

In: `Row`s of packed items. Out: the fields of a `Batch` (numpy, by `prepare`), and from a model and a batch the
`Loss` (on the device, by `loss`). Guaranteed: every loss and measure is a (sum, weight) pair whose weight follows from
the data alone, and the draws of a row come from the generator that is handed in and from nothing else.

An objective is a dataclass that derives from `objective.Objective`; text-to-text ones from `generative.Generative`.
"""
