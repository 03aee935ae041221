"""Using a trained model. In: a run folder and text. Out: text.

Reads only what a run folder holds (config.json, tokenizer/, checkpoints/); never needs the corpus.
"""
