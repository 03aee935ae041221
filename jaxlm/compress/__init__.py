"""Smaller and faster models of trained ones. In: a `Loaded`, a recipe (`Compress`), text. Out: a `Loaded`.

A recipe has steps; each takes a model that is ready to use and gives one (`step.py`), so that they follow each other in
any order. `report.py` says what the whole costs and gains.
"""
