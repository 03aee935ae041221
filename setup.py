"""The recipes of configs/ go into the wheel, as jaxlm/configs: `--config=bert_base` then works anywhere."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """An editable install finds them in the checkout, and stays one path on sys.path."""

    def run(self) -> None:
        """Copies them beside the modules."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "jaxlm", "configs")
            target.mkdir(parents=True, exist_ok=True)
            for recipe in sorted(Path("configs").glob("*.py")):
                self.copy_file(str(recipe), str(target / recipe.name))


setup(cmdclass={"build_py": BuildWithRecipes})
