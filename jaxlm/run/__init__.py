"""What a Run becomes before it is trained: its program on a mesh, and what it reads.

`program` assembles model, optimizer, shapes and steps; `step` is the pure function that is jitted; `inputs` tokenises
corpora and makes rows and feeds, a `streams.Stream` per task. Training, evaluation and benchmarks start here.
"""
