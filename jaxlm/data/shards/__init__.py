"""Tokenised corpora on disk. In: records and a tokenizer. Out: shards, sealed by an index, that are read by document.

`prepare` is the whole of it: `production` reads, `parts` are tokenised side by side and kept through a kill, `assembly`
makes shards and their `index`, and `shards` opens them.
"""
