"""What rows are filled with. In: shards. Out: items, a packing plan, and row i as a function of i."""
