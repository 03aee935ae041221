"""jaxlm trains language models in JAX, from raw text to a checkpoint. Start reading at jaxlm/train.py."""
