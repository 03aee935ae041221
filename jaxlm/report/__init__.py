"""One HTML page about runs, for people. In: run folders. Out: a file that needs nothing else.

Reads what a run leaves in its folder, and neither its corpus nor its weights, so that a folder copied to another
machine, one in progress and one of an earlier version can be shown. No device is asked and JAX is not imported.
Guarantees: what is foreign (texts, tokens, names) is escaped; the page refers to nothing outside itself, and shows its
curves without scripts, too.
"""
