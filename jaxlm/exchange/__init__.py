"""Models in and out: what ties `convert` (names and layouts) to checkpoints, tokenizers and runs.

In: a Hugging Face folder, a run folder or a model folder. Out: a model folder, a Hugging Face folder, or parameters on
the mesh. Guaranteed: all that is missing, unexpected or new is listed; nothing half-written stands under a final name.
"""
