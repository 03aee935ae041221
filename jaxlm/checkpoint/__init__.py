"""Saving and restoring a run.

In: a state (any pytree of arrays) and JSON metadata. Out: one folder per step, `checkpoints/<step>/`.
Guarantees: a step that is listed is complete; what is restored has the bits that were saved, on any mesh, or
an error; a damaged step is set aside and the next older one is used; a failed save does not stop training.
"""
