"""A model in the form that another engine runs. In: a run folder, a model folder or `hf:DIR`. Out: a folder of files.

One file per format (`formats.py` lists them), each a module with `write` and `check`: what is written is loaded by the
engine that it is for, and its outputs are compared with ours. Hugging Face folders are the business of `exchange`.
"""
