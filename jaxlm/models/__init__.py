"""Models: configs in, pure functions over nested dicts of arrays out.

In: a model config (one dataclass per family, e.g. `bert.Bert`) and a `Batch`. Out of `build.build`:
`init(key)`, `bind(params)` and `axes`. Guaranteed: nothing outside this package sees Flax; parameters are
float32 in a plain nested dict whose repeated blocks are stacked; packed items never see each other; calls
have no side effects.
"""
