"""The recipes of configs/ go into the wheel, as jaxlm/configs: `--config=bert_base` then works anywhere."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxlm*"]), "jaxlm.configs"],
    package_dir={"jaxlm.configs": "configs"},
)
