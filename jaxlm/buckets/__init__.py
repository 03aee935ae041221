"""Run folders in object stores (gs://, s3://, whatever fsspec writes). In: a URL. Out: a local folder that is its copy.

A run with a bucket as its --workdir works in a local copy (the mirror), as any run does, with its renames, fsync and
locks; the bucket follows at commit points. Small files are PUT every few seconds and before every checkpoint, then the
arrays of the checkpoint, its manifest last: a PUT is atomic, so a step counts in the bucket exactly when it is whole
there. A save that cannot be put there is a failed save, here too. At a start the bucket is the truth: what differs
from it is fetched, what it lacks is removed.

Not every access through one path type (etils.epath, universal-pathlib): half of what makes a run folder exact has no
form there (append, rename of a folder, fsync, flock, memory maps), and orbax 0.12.8 refuses s3:// paths.
"""
