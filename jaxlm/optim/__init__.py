"""How parameters change. In: an optimizer config, a horizon, logical axes. Out: an optax transformation.

`horizon` turns durations ("10000 steps", "2e9 tokens", "6%") into steps, `schedules` makes learning rates,
`matrices` says which parameters are matrices (decayed, factored, orthogonalised) and which leading axes are a
stack of separate parameters, `transforms` holds what optax lacks, `optimizers` the configs, `ema` the average
of weights. Guarantees: a stacked parameter is updated exactly as its layers would be one by one; state is
float32 and every moment has the rank of its parameter, so that it takes the same sharding.
"""
