"""Where arrays live. In: a mesh config, logical axes, abstract arrays. Out: a device mesh and shardings.

`mesh` arranges the devices, `rules` is the table logical axis -> mesh axes, `state` gives a sharding to every
array of a training state, `hosted` updates what of it lies in the host's memory, `rows` sums over a batch device by
device. Guarantees: everything is decided from shapes, before an array exists; a parameter or moment held in larger
pieces than a rule asks for is in `state.report`. Activations are not: one that its mesh axes do not divide stays whole
(models/activations.py).
"""
