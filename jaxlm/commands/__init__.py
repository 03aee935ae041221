"""The commands of a user, one file each: options in, exit code out. `python -m jaxlm.NAME` opens each of them."""
