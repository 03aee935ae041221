"""Training, once everything is put together: the loop, its journal, its report, its samples. `train.py` starts it."""
