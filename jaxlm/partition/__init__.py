"""Where arrays live. In: a mesh config, logical axes, abstract arrays. Out: a device mesh and shardings.

`mesh` arranges the devices, `rules` is the table logical axis -> mesh axes, `state` gives a sharding to every
array of a training state and says which parameters stayed replicated. Guarantees: everything is decided from
shapes, before an array exists; no dimension is left unsharded silently.
"""
