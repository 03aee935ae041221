"""Evaluation. In: parameters and held-out rows. Out: metrics with their names (`eval/loss`, `eval/mlm_accuracy`, ...).

Evaluation rows, masks and their order are fixed by the seed: two evaluations of the same weights agree to the bit.
"""
