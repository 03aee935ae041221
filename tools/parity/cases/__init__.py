"""One file per family: `CASES`, a list of Case."""
