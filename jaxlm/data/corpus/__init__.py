"""Where text comes from. In: a `corpus.Corpus` config. Out: `Record`s in a fixed order, cleaned by its steps."""
