"""Masked LM with sentence-order prediction: ALBERT's full objective (Lan et al., 1909.11942, section 3.1).

In: rows packed with pairs of consecutive segments of one document, half of them in swapped order. Out: as of any
`SentencePairs`; the second term is `sop`: label 0 where b follows a, 1 where a follows b. Topic alone does not tell.
"""

import dataclasses

from jaxlm.objectives.sentence_pairs import SentencePairs, check_share


@dataclasses.dataclass(kw_only=True)
class SentenceOrder(SentencePairs):
    """ALBERT as published: short_share 0.1, swapped_share 0.5, with n-gram masking of up to 3 words in `masked_lm`.

    Differs: where the published code falls back on a random document (a chunk of one sentence), the next sentence of
    the document joins, and a document's last sentence, left alone, makes no pair.
    """

    question = "sop"
    negatives = "swapped"

    swapped_share: float  # of pairs in swapped order

    @property
    def negative_share(self) -> float:
        """Of pairs with label 1."""
        return self.swapped_share

    def validate(self, where: str) -> None:
        """Shares in [0, 1], counts of at least 1."""
        super().validate(where)
        check_share(self, where, "swapped_share", "0.5")
