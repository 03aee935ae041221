"""What `pip install .` gives works in an empty folder: recipes by name, the converter, every door."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from jaxlm.commands import GROUPS

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.slow  # pip fetches the build backend


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Runs python in an empty folder, with nothing of ours but the contents of a wheel."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    git = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    words = ["pip", "wheel", "-q", "--no-deps", "-w", str(place), str(source)]
    subprocess.run([sys.executable, "-m", *words], check=True)
    zipfile.ZipFile(next(place.glob("*.whl"))).extractall(place / "site")
    empty = place / "empty"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(place / "site"), "JAX_PLATFORMS": "cpu"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=empty, env=environment, capture_output=True, text=True
        )

    return run


def test_it_is_the_wheel_that_is_tried(call):
    found = call("-c", "import jaxlm; print(jaxlm.__file__)").stdout.strip()
    assert found.endswith("site/jaxlm/__init__.py")


@pytest.mark.parametrize("config", ["bert_base", "configs/quickstart.py", "quickstart_llama"])
def test_a_recipe_of_jaxlm_is_found(call, config):
    done = call("-m", "jaxlm.train", f"--config={config}", "--explain")
    assert done.returncode == 0 and "batch_size" in done.stdout, done.stderr


VERBS = [f"jaxlm {verb}" for group in GROUPS.values() for verb in group]
DOORS = ["jaxlm.evaluate"]
DOORS += [
    f"jaxlm.{path.stem}" for path in sorted((ROOT / "jaxlm").glob("[a-z]*.py")) if "run()" in path.read_text()
]


@pytest.mark.parametrize("command", [*VERBS, *DOORS])
def test_every_command_opens(call, command):
    done = call("-m", *command.split(), "--help")
    assert done.returncode == 0, done.stderr


def test_a_model_is_trained_and_converted(call):
    sizes = (
        "model.layers=1 model.hidden=16 model.heads=2 model.mlp=32 steps=60 batch_size=8 evaluation.rows=8"
    )
    small = [f"--config.{size}" for size in sizes.split()]
    done = call("-m", "jaxlm.train", "--config=quickstart", *small, "--config.data.cache=cache")
    assert done.returncode == 0, done.stdout + done.stderr
    done = call("-m", "jaxlm", "report", "runs/quickstart")  # which has files that are no Python
    assert done.returncode == 0 and done.stdout.startswith("report.html: quickstart"), done.stderr
    done = call("-m", "jaxlm.convert_checkpoint", "to_hf", "runs/quickstart", "exported", "--check")
    assert done.returncode == 0 and "the same model" in done.stdout, done.stdout + done.stderr
