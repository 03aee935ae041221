"""Servers that the tests of jaxlm.serve share: tiny models, in this process, at a port of their own."""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request

import uvicorn

from jaxlm.formats import safetensors_file
from jaxlm.partition.mesh import Mesh
from jaxlm.serve import app, server
from jaxlm.serve.limits import Limits
from tests.exchange.folders import hf_folder
from tests.infer.test_answers import written_folder

CHAT = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


def classifier(path, names, head="classes"):
    """A folder with classes of these names."""
    hf_folder(path, heads=(head,))
    config = json.loads((path / "config.json").read_text())
    config["id2label"] = {str(k): name for k, name in enumerate(names)}
    (path / "config.json").write_text(json.dumps(config))
    if len(names) == 1:
        tensors = safetensors_file.load(path / "model.safetensors")
        cut = {n: a[:1] if n.startswith("classifier") else a for n, a in tensors.items()}
        safetensors_file.save(path / "model.safetensors", cut)
    return f"hf:{path}"


def writer(path, chat=CHAT):
    """A folder that writes, with a chat template."""
    written_folder(path, "GPT-2")
    (path / "chat_template.jinja").write_text(chat)
    return f"hf:{path}"


class Running:
    """A server that listens."""

    def __init__(self, state, url):
        self.state, self.url = state, url

    def get(self, path):
        """(status, text)."""
        return self.ask(path, None)

    def ask(self, path, body, **headers):
        """(status, what was answered: JSON, or text)."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"content-type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _read(answer)
        except urllib.error.HTTPError as error:
            return error.code, _read(error)


def _read(answer):
    text = answer.read().decode()
    return json.loads(text) if "json" in answer.headers.get("content-type", "") else text


@contextlib.contextmanager
def running(models, adapters=None, *, limits=None, warm=False, devices=1, **around):
    """A server with these models, by name."""
    limits = limits or Limits(batch=4)
    state = server.opened(models, adapters or {}, limits, {"dtype": "float32", "mesh": Mesh(data=devices)})
    if warm:
        server.warm(state, lambda line: None)
    for writer in () if warm else state.writers:
        writer.warm()
    state.ready = True
    at = server.bound("127.0.0.1", 0)
    protocol = server._impatient(limits.sending)
    config = uvicorn.Config(
        app.app(state, **around), http=protocol, lifespan="off", log_config=None, ws="none"
    )
    made = uvicorn.Server(config)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    while not made.started:
        time.sleep(0.01)
    try:
        yield Running(state, f"http://127.0.0.1:{at.getsockname()[1]}")
    finally:
        made.should_exit = made.force_exit = True
        thread.join(timeout=20)
        state.close()
