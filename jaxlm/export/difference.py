"""One comparison of an engine with us."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Difference:
    """One comparison of a check: of what, the largest absolute difference to our outputs, and how much is allowed."""

    what: str
    largest: float
    allowed: float
    engine: str = ""  # which, with its version

    @property
    def fine(self) -> bool:
        """Whether it is allowed; NaN is not."""
        return bool(self.largest <= self.allowed)
