"""Weights between our layout and the rest of the world's.

In: a dict of named numpy arrays as others store them and a model config, or our parameters. Out: our nested
dict, or theirs. Guaranteed: nothing is dropped or invented in silence (missing and unexpected names are
listed); exporting what was imported gives the same bits.
"""
