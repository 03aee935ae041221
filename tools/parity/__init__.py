"""Parity with transformers: the same weights, the same numbers. `python -m tools.parity` writes docs/parity.md.

`cases/` has one file per family with its CASES (odd sizes, random weights); `kinds.py` says what a batch and a loss
are; `checks.py` compares. The tests run the same cases (tests/convert/test_families_parity.py).
"""
