"""From text to rows of tokens. In: a `corpus.Corpus` and a tokenizer config. Out: numpy batches on every host.

corpus → tokenizer → shards (prepare) → items → packing plan → rows → pipeline → feed. Guaranteed: row i depends on
(shards, plan, seed, i) and on nothing else; preparation is resumable and cached by content; shards are checked when
opened; whatever a user can get wrong is a `UserError`.
"""
