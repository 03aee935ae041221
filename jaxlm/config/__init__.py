"""The typed configuration of a run. In: a recipe file and command-line overrides. Out: a validated `Run`.

A recipe in `configs/` returns a `Run`: a tree of keyword-only dataclasses in which every component is an object of
its own type (`model=Bert(...)`, `optimizer=AdamW(...)`). A field without a default changes results and is stated by
every recipe; a field with a default is operational (how often to log, how to split the work) and may change freely
between a run and its continuation. That one rule drives `--explain` and the comparison on resume.
"""

from jaxlm.config.schema import Checkpointing, Data, Evaluation, Logging, Mixture, Run, Share, Stage

__all__ = ["Checkpointing", "Data", "Evaluation", "Logging", "Mixture", "Run", "Share", "Stage"]
