"""Files that hold weights, as others write them. In: a path. Out: named arrays, mapped and read when asked for.

safetensors, PyTorch, Flax, TensorFlow and GGUF files, read without the libraries that wrote them; knows nothing of
models. Guaranteed: nothing in a file is executed, and a damaged or hostile one ends in a UserError that names it.
"""
