"""Where text comes from. In: a `corpus.Corpus` config. Out: `Record`s in a fixed order, cleaned by its steps."""

from jaxlm.data.corpus.corpus import Corpus

__all__ = ["Corpus"]
