"""The launch scripts, with fake gcloud, srun, ssh and python on PATH that record what they are given."""

import os
import shlex
import shutil
import signal
import subprocess
import time

import pytest

from tests.launch.fakes import LAUNCH, Fakes

SCRIPTS = sorted(p for p in LAUNCH.iterdir() if p.suffix in (".sh", ".sbatch"))
ARGUMENTS = ["--config=configs/bert_base.py", "--workdir=a folder", "--config.data.corpus=x-*.txt"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def fakes(tmp_path) -> Fakes:
    return Fakes(tmp_path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_sound(path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ") and "\nset -euo pipefail\n" in text
    assert "Edit" in text and os.access(path, os.X_OK)
    assert "resume" not in text.replace("resumable", ""), "a start and a restart are the same command line"
    assert f"`{path.name}" in (LAUNCH / "README.md").read_text()


# ------------------------------------------------------------------------------------------------ retry.sh
def sequence(*codes: int) -> str:
    """A fake's body: the nth call ends with the nth code, later ones with the last; 134 is a real abort."""
    cases = " ".join(f"{i}) code={code};;" for i, code in enumerate(codes, 1))
    return f"case $n in {cases} *) code={codes[-1]};; esac\n[ $code != 134 ] || kill -ABRT $$\nexit $code"


@pytest.mark.parametrize(
    ("codes", "expected", "calls"),
    [
        ((0,), 0, 1),
        ((75, 0), 0, 2),
        ((134, 0), 0, 2),
        ((70,), 70, 1),
        ((78,), 78, 1),
        ((1,), 1, 1),
        ((137,), 137, 1),
        ((75, 70), 70, 2),
    ],
)
def test_retry_repeats_75_and_134_only(fakes, codes, expected, calls):
    fakes.add("python", "ulimit -c 0\n" + sequence(*codes))
    command = ["python", "-m", "jaxlm.train", *ARGUMENTS]
    assert fakes.run("retry.sh", *command)[0] == expected
    assert fakes.calls("python") == [command[1:]] * calls  # the same command line every time


def test_retry_stops_without_progress(fakes):
    fakes.add("python", "exit 75")
    code, output = fakes.run("retry.sh", "python", RETRY_STUCK="3")
    assert (code, len(fakes.calls("python"))) == (75, 3)
    assert "without a new checkpoint" in output


def test_retry_is_bounded_even_with_progress(fakes):
    fakes.add(
        "python",
        "mkdir -p run/checkpoints/$((9 * n)); touch run/checkpoints/$((9 * n))/manifest.json; exit 75",
    )
    code, output = fakes.run("retry.sh", "python", "--workdir=run", RETRY_MAX="5", RETRY_STUCK="2")
    assert (code, len(fakes.calls("python"))) == (75, 6)
    assert "after 5 restarts" in output


def test_retry_does_not_take_a_folder_without_manifest_for_progress(fakes):
    fakes.add("python", "mkdir -p run/checkpoints/$n; exit 75")
    code, _ = fakes.run("retry.sh", "python", "--workdir", "run", RETRY_STUCK="2")
    assert (code, len(fakes.calls("python"))) == (75, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_retry_hands_signals_on_and_does_not_restart(fakes, number):
    fakes.add("python", "trap 'exit 75' TERM; touch started; while true; do sleep 0.05; done")
    process = fakes.start("retry.sh", "python")
    fakes.wait_for("started")
    process.send_signal(number)
    process.communicate(timeout=240)
    assert (process.returncode, len(fakes.calls("python"))) == (75, 1)


def test_retry_stopped_between_two_tries(fakes):
    fakes.add("python", "touch started; exit 75")
    process = fakes.start("retry.sh", "python", RETRY_WAIT="60")
    assert "restart 1 of" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=240)
    assert (process.returncode, len(fakes.calls("python"))) == (75, 1)


def test_retry_without_a_command(fakes):
    assert fakes.run("retry.sh")[0] == 78


# ----------------------------------------------------------------------------------------------- GPU hosts
def test_gpu_host(fakes):
    fakes.add("python", 'echo "flags=$XLA_FLAGS"; pwd; exit 75')
    code, output = fakes.run("gpu_host.sh", *ARGUMENTS)
    assert code == 75 and fakes.calls("python") == [["-m", "jaxlm.train", *ARGUMENTS]]
    assert output.splitlines() == ["flags=", str(LAUNCH.parent)]

    output = fakes.run("gpu_host.sh", XLA_PROFILE="deterministic", XLA_FLAGS="--own=1")[1]
    assert "flags=--xla_gpu_deterministic_ops=true --own=1" in output
    assert fakes.run("gpu_host.sh", XLA_PROFILE="fast")[0] == 78


def test_local_says_what_it_would_run_and_runs_it(fakes):
    fakes.add("python", "exit 75")
    code, output = fakes.run("local.sh", "--dry_run", *ARGUMENTS, PROCESSES="4")
    words = ["python", "-m", "jaxlm.runtime.local", "4", "8", "-m", "jaxlm.train", *ARGUMENTS]
    assert code == 0 and shlex.split(output) == ["env", "JAX_PLATFORMS=cpu", *words]
    assert not fakes.calls("python")
    assert fakes.run("local.sh", *ARGUMENTS, DEVICES="2")[0] == 75
    assert fakes.calls("python") == [[*words[1:3], "2", "2", *words[5:]]]


def test_gpu_hosts_by_environment(fakes):
    fakes.add("python", 'echo "$JAXLM_COORDINATOR $JAXLM_PROCESS_ID"')
    code, output = fakes.run("gpu_hosts.sh", *ARGUMENTS)
    assert code == 78 and "JAXLM_COORDINATOR" in output and fakes.calls("python") == []
    more = {"JAXLM_COORDINATOR": "a:1", "JAXLM_NUM_PROCESSES": "2", "JAXLM_PROCESS_ID": "1"}
    assert fakes.run("gpu_hosts.sh", *ARGUMENTS, **more) == (0, "a:1 1\n")
    assert fakes.calls("python") == [["-m", "jaxlm.train", *ARGUMENTS]]


@pytest.fixture
def ssh(fakes) -> Fakes:
    """ssh that runs the command here, in a PID file's place of its own."""
    fakes.add("ssh", 'bash -c "${!#}"')
    return fakes


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((75, 134), 75), ((75, 0), 75), ((75, 78), 78), ((70, 70), 70)]
)
def test_gpu_hosts_over_ssh(ssh, codes, expected):
    ssh.add(
        "python",
        'ulimit -c 0; echo "$JAXLM_COORDINATOR $JAXLM_NUM_PROCESSES" >process-$JAXLM_PROCESS_ID\n'
        f"codes=({codes[0]} {codes[1]}); code=${{codes[$JAXLM_PROCESS_ID]}}\n"
        "[ $code != 134 ] || kill -ABRT $$\nexit $code",
    )
    (ssh.folder / "launch").symlink_to(LAUNCH)
    python = ssh.bin / "python"
    python.write_text(python.read_text().replace(">process-", f">{ssh.folder}/process-"))
    code, output = ssh.run("gpu_hosts.sh", *ARGUMENTS, HOSTS="me@a b", PORT=f"t{os.getpid()}")
    assert code == expected, output
    assert ssh.calls("python") == [["-m", "jaxlm.train", *ARGUMENTS]] * 2
    assert [(ssh.folder / f"process-{i}").read_text() for i in (0, 1)] == [f"a:t{os.getpid()} 2\n"] * 2
    assert sorted(call[-2] for call in ssh.calls("ssh")) == ["b", "me@a"]


# --------------------------------------------------------------------------------------------------- Slurm
@pytest.mark.parametrize(
    ("codes", "srun", "restarted", "expected", "requeued"),
    [
        ((0, 0), 0, "0", 0, False),
        ((75, 75), 75, "0", 0, True),
        ((75, 134), 134, "0", 0, True),
        ((75, None), 137, "0", 0, True),  # the second was killed because the first had ended
        ((70, 143), 143, "0", 70, False),  # srun's code hides the first one's
        ((78, 78), 78, "0", 78, False),
        ((None, None), 137, "0", 137, False),
        ((75, 75), 75, "50", 75, False),
    ],
)
def test_slurm(fakes, codes, srun, restarted, expected, requeued):
    tasks = "\n".join(f'CODE={c} SLURM_PROCID={i} "$@"' for i, c in enumerate(codes) if c is not None)
    fakes.add("srun", f"while [[ $1 == --* ]]; do shift; done\n{tasks}\nexit {srun}")
    fakes.add("scontrol", "")
    fakes.add("python", 'echo "devices=$JAX_LOCAL_DEVICE_IDS"; exit $CODE')
    slurm = {"SLURM_SUBMIT_DIR": str(fakes.folder), "SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "4"}
    code, output = fakes.run("slurm.sbatch", *ARGUMENTS, **slurm, SLURM_RESTART_COUNT=restarted)
    assert (code, fakes.calls("scontrol")) == (expected, [["requeue", "7"]] if requeued else []), output
    assert fakes.calls("srun")[0][:2] == ["--wait=60", "--kill-on-bad-exit=1"]
    started = [c for c in codes if c is not None]
    assert fakes.calls("python") == [["-m", "jaxlm.train", *ARGUMENTS]] * len(started)
    assert output.count("devices=0,1,2,3") == len(started)  # not the first GPU only
    assert list(fakes.folder.glob(".jaxlm-codes*")) == []


def test_slurm_warns_the_tasks_and_may_requeue():
    text = (LAUNCH / "slurm.sbatch").read_text()
    for line in ("--signal=USR1@600", "--requeue", "--ntasks-per-node=1"):
        assert f"\n#SBATCH {line}\n" in text


# ---------------------------------------------------------------------------------------------------- TPUs
TPU = {"TPU": "pod", "ZONE": "z1", "PROJECT": "p1", "POLL": "0"}
LIKE_A_WORKER = """
[[ "$*" == *tpu-vm\\ ssh* ]] || exit 0
for a in "$@"; do [[ $a != --command=* ]] || exec bash -c "${a#--command=}"; done
"""


@pytest.fixture
def worker(fakes) -> Fakes:
    """gcloud whose `tpu-vm ssh` runs the command here, in a home folder with a fake installation."""
    if shutil.which("flock") is None or shutil.which("setsid") is None:
        pytest.skip("flock and setsid (Linux) are not installed")
    fakes.add("gcloud", LIKE_A_WORKER)
    (fakes.folder / "jaxlm/.venv/bin").mkdir(parents=True)
    (fakes.folder / "jaxlm/.venv/bin/python").symlink_to(fakes.bin / "python")
    return fakes


def test_tpu_pod_installs_on_all_workers(fakes):
    fakes.add("gcloud", "")
    assert fakes.run("tpu_pod.sh", "install", **TPU)[0] == 0
    scp, ssh = fakes.calls("gcloud")
    assert scp[:4] == ["compute", "tpus", "tpu-vm", "scp"] and scp[5:] == [
        "pod:jaxlm.tgz",
        "--zone=z1",
        "--project=p1",
        "--worker=all",
    ]
    assert ssh[:5] == ["compute", "tpus", "tpu-vm", "ssh", "pod"] and "--worker=all" in ssh
    assert '-e ".[tpu,gcs]"' in ssh[-1]


@pytest.mark.parametrize("code", [0, 75, 134, 70])
def test_tpu_pod_runs_and_passes_the_code_on(worker, code):
    worker.add("python", f"ulimit -c 0; echo training; {sequence(code)}")
    got, output = worker.run("tpu_pod.sh", "run", *ARGUMENTS, **TPU)
    assert got == code and output.count("training") == 1
    assert worker.calls("python") == [["-m", "jaxlm.train", *ARGUMENTS]]


def test_tpu_pod_stops_with_a_checkpoint_and_follows_what_runs(worker):
    worker.add("python", "trap 'echo saved; exit 75' TERM; touch started; while true; do sleep 0.05; done")
    first = worker.start("tpu_pod.sh", "run", *ARGUMENTS, **TPU)
    worker.wait_for("jaxlm/started")
    second = worker.start("tpu_pod.sh", "run", *ARGUMENTS, **TPU)  # a connection that was made again
    third = worker.start("tpu_pod.sh", "attach", **TPU)
    time.sleep(0.3)
    first.terminate()
    for process in (first, second, third):
        assert "saved" in process.communicate(timeout=240)[0]
        assert process.returncode == 75
    assert len(worker.calls("python")) == 1


def test_tpu_pod_does_not_run_when_the_setup_fails(worker):
    worker.add("python", "")
    assert worker.run("tpu_pod.sh", "run", SETUP="true && false", **TPU)[0] == 78
    assert worker.calls("python") == []
    assert worker.run("tpu_pod.sh", "go", **TPU)[0] == 78


# A queued resource whose state is a file; the first run on it is preempted.
CLOUD = """
case "$*" in
  *queued-resources\\ describe*) cat queue 2>/dev/null;;
  *tpu-vm\\ describe*) cat node 2>/dev/null;;
  *queued-resources\\ create*) [[ FAIL == no ]] || exit 1; echo ACTIVE >queue; echo READY >node;;
  *queued-resources\\ delete*) rm -f queue node;;
  *jaxlm.train*)
    echo x >>runs; codes=(CODES); code=${codes[$(grep -c x runs) - 1]}
    if [ $code = 255 ]; then echo SUSPENDED >queue; echo PREEMPTED >node; fi; exit $code;;
esac
"""
SPOT = {**TPU, "TYPE": "v6e-64", "RUNTIME": "v2"}


@pytest.mark.parametrize(
    ("codes", "expected", "created", "deleted"),
    [
        ("0", 0, 1, 1),
        ("255 0", 0, 2, 2),  # preempted: a new TPU
        ("75 134 0", 0, 1, 1),  # the same TPU
        ("70", 70, 1, 1),
        ("78", 78, 1, 1),
        ("1", 1, 1, 1),
        ("75 75 75 75 75", 75, 1, 1),
    ],
)
def test_tpu_queued_resource(fakes, codes, expected, created, deleted):
    fakes.add("gcloud", CLOUD.replace("CODES", codes).replace("FAIL", "no"))
    code, output = fakes.run("tpu_queued_resource.sh", *ARGUMENTS, **SPOT, MAX_RESTARTS="3")
    calls = fakes.calls("gcloud")
    of = lambda verb: [c for c in calls if c[2:4] == ["queued-resources", verb]]
    assert (code, len(of("create")), len(of("delete"))) == (expected, created, deleted), output
    assert {"--spot", "--node-id=pod", "--accelerator-type=v6e-64", "--zone=z1"} <= set(of("create")[0])
    assert "--force" in of("delete")[0]
    runs = [c for c in calls if "jaxlm.train" in c[-1]]
    assert len(runs) == min(len(codes.split()), 4) and all(r == runs[0] for r in runs)


def test_tpu_queued_resource_keeps_the_tpu_on_request_and_ends_when_it_cannot_be_made(fakes):
    fakes.add("gcloud", CLOUD.replace("CODES", "0").replace("FAIL", "no"))
    assert fakes.run("tpu_queued_resource.sh", **SPOT, KEEP="1")[0] == 0
    assert not [c for c in fakes.calls("gcloud") if c[3] == "delete"]
    (fakes.folder / "queue").unlink()
    fakes.add("gcloud", CLOUD.replace("FAIL", "yes"))
    assert fakes.run("tpu_queued_resource.sh", **SPOT)[0] == 78


# ---------------------------------------------------------------------------------------------- Kubernetes
@pytest.mark.parametrize("file", ["kubernetes.yaml", "kubernetes_tpu.yaml"])
def test_kubernetes(file):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    (jobset,) = yaml.safe_load_all((LAUNCH / file).read_text())
    spec = jobset["spec"]
    assert spec["failurePolicy"]["maxRestarts"] > 0
    assert spec["failurePolicy"]["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    (group,) = spec["replicatedJobs"]
    job = group["template"]["spec"]
    pod = job["template"]["spec"]
    (train,) = pod["containers"]
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, **group["template"]}
    kubernetes.validate(whole, kubernetes.latest_version(), strict=True)
    assert (job["completionMode"], job["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    assert job["completions"] == job["parallelism"]
    if file == "kubernetes.yaml":  # the workers of a TPU find each other
        environment = {e["name"]: e.get("value") for e in train["env"]}
        name = jobset["metadata"]["name"]
        assert job["completions"] == int(environment["JAXLM_NUM_PROCESSES"])
        assert environment["JAXLM_COORDINATOR"].startswith(f"{name}-{group['name']}-0-0.{name}:")
        assert "JAXLM_PROCESS_ID" in environment

    def action(code: int) -> str:
        for rule in job["podFailurePolicy"]["rules"]:
            on = rule.get("onExitCodes")
            if on and (code in on["values"]) == (on["operator"] == "In"):
                assert on["containerName"] == train["name"]
                return rule["action"]
        raise AssertionError(f"no rule for {code}")

    assert [action(code) for code in (75, 134, 70, 78, 1)] == [
        "Count",
        "Count",
        "FailJob",
        "FailJob",
        "FailJob",
    ]
