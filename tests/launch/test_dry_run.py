"""What a launch script would do is printed and not done; files for other launchers pass their own checkers."""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.launch.fakes import LAUNCH, Fakes

ARGUMENTS = ["--config=configs/bert_base.py", "--workdir=a folder"]
TRAIN = ["-m", "jaxlm.train", *ARGUMENTS]
TPU = {"TPU": "pod", "ZONE": "z1", "TYPE": "v6e-64", "RUNTIME": "v2"}


@pytest.fixture
def fakes(tmp_path) -> Fakes:
    made = Fakes(tmp_path)
    for name in ("python", "ssh", "gcloud", "srun", "scontrol"):
        made.add(name, "exit 1")
    return made


def dry(fakes, script, *words, **environment):
    """The commands that it prints; nothing was called."""
    code, output = fakes.run(script, *words, **environment)
    assert code == 0, output
    assert not [name for name in ("python", "ssh", "gcloud", "srun") if fakes.calls(name)]
    return [shlex.split(line) for line in re.split(r"\n(?=\S+ )", output.strip())]


def test_gpu_host(fakes):
    assert dry(fakes, "gpu_host.sh", "--dry_run", *ARGUMENTS) == [["python", *TRAIN]]
    assert dry(fakes, "gpu_host.sh", *ARGUMENTS, DRY_RUN="1", XLA_PROFILE="deterministic") == [
        ["env", "XLA_FLAGS=--xla_gpu_deterministic_ops=true ", "python", *TRAIN]
    ]


def test_gpu_hosts(fakes):
    found = dry(fakes, "gpu_hosts.sh", "--dry_run", *ARGUMENTS, HOSTS="a b")
    assert sorted(words[-2] for words in found) == ["a", "b"] and {words[0] for words in found} == {"ssh"}
    (script,) = shlex.split(found[0][-1])[2:]
    assert "bash launch/gpu_host.sh --config=configs/bert_base.py --workdir=a\\ folder" in script


def test_slurm(fakes):
    (words,) = dry(fakes, "slurm.sbatch", "--dry_run", *ARGUMENTS)
    assert words[0] == "srun" and words[-5:] == ["python", *TRAIN]
    assert dry(fakes, "slurm.sbatch", *ARGUMENTS, DRY_RUN="1") == [words]


def test_retry(fakes):
    assert dry(fakes, "retry.sh", "--dry_run", "python", *TRAIN) == [["python", *TRAIN]]
    assert dry(fakes, "retry.sh", "python", *TRAIN, DRY_RUN="1") == [["python", *TRAIN]]


def test_tpus(fakes):
    verbs = lambda found: [words[3:5] for words in found]
    assert verbs(dry(fakes, "tpu_pod.sh", "--dry_run", "install", **TPU)) == [
        ["tpu-vm", "scp"],
        ["tpu-vm", "ssh"],
    ]
    (run,) = dry(fakes, "tpu_pod.sh", "--dry_run", "run", *ARGUMENTS, **TPU)
    assert "-m jaxlm.train --config=configs/bert_base.py" in run[-1].replace("\\", "")
    found = dry(fakes, "tpu_queued_resource.sh", "--dry_run", *ARGUMENTS, **TPU)
    assert [words[4] for words in found] == ["create", "scp", "ssh", "ssh", "delete"]
    assert found[3] == run
    assert len(dry(fakes, "tpu_queued_resource.sh", "--dry_run", *ARGUMENTS, **TPU, KEEP="1")) == 4


def test_skypilot_starts_a_process_on_every_host(fakes):
    """Its own schema was held against the file by hand: SkyPilot is no dependency."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75, 134]
    (fakes.folder / "launch").symlink_to(LAUNCH)
    fakes.add("python", 'echo "$JAXLM_COORDINATOR $JAXLM_NUM_PROCESSES $JAXLM_PROCESS_ID"; exit 75')
    (fakes.folder / "jaxlm/bin").mkdir(parents=True)
    (fakes.folder / "jaxlm/bin/python").symlink_to(fakes.bin / "python")
    host = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    done = subprocess.run(
        ["bash", "-c", task["run"]],
        env=fakes.environment(**host),
        cwd=fakes.folder,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (75, "10.0.0.1:8476 2 1\n"), done.stderr
    assert fakes.calls("python")[0][:3] == ["-m", "jaxlm.train", "--config=configs/bert_base.py"]


def checked(program, *words):
    # Packages put it beside the interpreter, which need not be on the PATH.
    found = shutil.which(program) or shutil.which(program, path=pathlib.Path(sys.executable).parent)
    if found is None:
        pytest.skip(f"{program} is not installed: pip install jaxlm[test]")
    done = subprocess.run([found, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_scripts_pass_shellcheck():
    scripts = [str(path) for path in sorted(LAUNCH.iterdir()) if path.suffix in (".sh", ".sbatch")]
    checked("shellcheck", "--severity=warning", "--external-sources", *scripts)


def test_the_image_passes_hadolint_and_its_extras_exist():
    checked("hadolint", str(LAUNCH / "Dockerfile"))
    text, project = (LAUNCH / "Dockerfile").read_text(), (LAUNCH.parent / "pyproject.toml").read_text()
    for extra in re.findall(r"EXTRA=(\w+)", text):
        assert extra == "cpu" or f"\n{extra} = [" in project
    for source in re.findall(r"^COPY (.+) \S+$", text, re.M):
        assert all((LAUNCH.parent / name).exists() for name in source.split())
