"""Masked LM with next-sentence prediction: BERT's full objective (Devlin et al., 1810.04805, section 3.1).

In: rows packed with pairs, half of them of segments that do not belong together. Out: as of any `SentencePairs`; the
second term is `nsp`: label 0 where b follows a, 1 where b is from another document.
"""

import dataclasses

from jaxlm.objectives.sentence_pairs import SentencePairs, check_share


@dataclasses.dataclass(kw_only=True)
class NextSentence(SentencePairs):
    """BERT as published: short_share 0.1, random_share 0.5, duplicates 10."""

    question = "nsp"
    negatives = "random"

    random_share: float  # of pairs whose second segment is from another document

    @property
    def negative_share(self) -> float:
        """Of pairs with label 1; a document's last sentence, left alone, gets a random partner in any case."""
        return self.random_share

    def validate(self, where: str) -> None:
        """Shares in [0, 1], counts of at least 1."""
        super().validate(where)
        check_share(self, where, "random_share", "0.5")
