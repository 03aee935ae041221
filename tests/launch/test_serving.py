"""Claims about the files that start a server elsewhere: their commands can be typed, their probes are routes."""

import configparser
import re
import shlex
import shutil
import subprocess

import pytest

from jaxlm.commands import options, serve
from tests.launch.fakes import LAUNCH


class Parsed(Exception):
    """The options were understood."""


@pytest.fixture
def only_parse(monkeypatch):
    read = options.Parser.options

    def then_stop(self, argv):
        raise Parsed(read(self, argv))

    monkeypatch.setattr(options.Parser, "options", then_stop)


def parsed(words):
    with pytest.raises(Parsed) as found:
        serve.main(["serve", *words])
    return found.value.args[0]


def test_the_unit_starts_a_server_and_waits_for_what_it_accepted(only_parse):
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(LAUNCH / "jaxlm-serve.service")
    service = unit["Service"]
    _, m, module, *words = shlex.split(service["ExecStart"])
    assert (m, module) == ("-m", "jaxlm.serve") and parsed(words).api_keys == "%d/keys"
    assert float(service["TimeoutStopSec"]) > 30 and service["RestartPreventExitStatus"] == "78"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the rest of the unit is not checked")
    words = ["systemd-analyze", "verify", "--man=no", str(LAUNCH / "jaxlm-serve.service")]
    said = subprocess.run(words, capture_output=True, text=True).stderr
    assert "Unknown" not in said and "Failed to parse" not in said, said


def test_the_deployment_is_probed_at_routes_that_there_are(only_parse):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    app = pytest.importorskip("jaxlm.serve.app", reason="needs the extra `serve`")
    deployment, service = yaml.safe_load_all((LAUNCH / "kubernetes_serve.yaml").read_text())
    for one in (deployment, service):
        kubernetes.validate(one, kubernetes.latest_version(), strict=True)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert set(probes) <= set(app._GET) and probes[0] == probes[1] != probes[2]
    given = parsed(container["args"])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > 30 + pause and given.run == "model=/models/model"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert {"/models", "/keys", "/cache"} == mounted


def test_the_image_that_serves_is_not_the_one_that_is_built_without_a_target(only_parse):
    text = (LAUNCH / "Dockerfile").read_text()
    assert re.findall(r"^FROM .* AS (\w+)$", text, re.M) == ["base", "serve", "train"]
    stage = text.split("AS serve")[1].split("FROM")[0]
    words = re.search(r"^ENTRYPOINT (\[.*\])$", stage, re.M)[1]
    assert parsed([*eval(words)[3:], "--run=/runs/wiki"]).host == "0.0.0.0"
