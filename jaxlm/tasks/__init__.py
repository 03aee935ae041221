"""What a trained model is for, done to the rows of a table. In: a model, texts. Out: values for every row, and metrics.

One file a task. `predict`, `evaluate --data`, `jaxlm.load(...)` and evaluation in training all go through `Task`.
"""
