"""Tokenizers as objects: text to ids and back, training, and the files of others. Configs are in `data.tokenizer`."""
