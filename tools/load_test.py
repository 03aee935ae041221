"""How fast a server of an encoder answers, beside `jaxlm embed` with the same texts.

    python tools/load_test.py --run=hf:path/to/minilm --clients=1,8,64

Starts `jaxlm serve`, sends texts of mixed length, one a request, from so many clients at once, and prints requests a
second of the server's CPU time (its own count, /metrics), a second of the clock, and percentiles. `jaxlm embed` does
all texts at once, its programs compiled before. On a busy machine CPU seconds compare, and the clock does not.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]


def texts(number: int) -> list[str]:
    """Pieces of README.md of 4 to 180 words, most of them short; the same at every call."""
    words, draw = (ROOT / "README.md").read_text().split(), random.Random(0)
    found = []
    for _ in range(number):
        length = min(180, max(4, int(draw.lognormvariate(2.9, 0.8))))
        at = draw.randrange(len(words) - 200)
        found.append(" ".join(words[at : at + length]))
    return found


def embedded(run: str, asked: Sequence[str]) -> tuple[float, float]:
    """CPU seconds a text of `jaxlm embed`, compiled: of all at once, and of some one after the other."""
    from jaxlm.infer import loaded, text_reading

    ready = loaded.load(run)

    def took(each: Sequence[Sequence[str]]) -> float:
        begin = time.process_time()
        for some in each:
            text_reading.vectors(ready, some)
        return (time.process_time() - begin) / sum(map(len, each))

    at_once, one_by_one = [asked], [[text] for text in asked[:64]]
    for each in (at_once, one_by_one):
        took(each)  # compiles
    return took(at_once), took(one_by_one)


class Server:
    """The command, until it is closed."""

    def __init__(self, *runs: str) -> None:
        """`runs`: NAME=RUN of each model."""
        words = [
            sys.executable,
            "-m",
            "jaxlm.serve",
            *[f"--run={run}" for run in runs],
            "--port=0",
            "--quiet",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
        self.address = ""
        for line in self.process.stderr or ():
            print(line.rstrip(), file=sys.stderr)
            if found := re.search(r"listening on http://(\S+)/ for", line):
                self.address = found[1]
            if line == "ready\n":
                return
        raise SystemExit(self.process.wait() or 1)

    def said(self, name: str) -> float:
        """What /metrics says of one number, such as process_cpu_seconds_total."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^{name} (\S+)$", text, re.M)
        assert found is not None
        return float(found[1])

    def seconds(self) -> float:
        """CPU seconds so far."""
        return self.said("process_cpu_seconds_total")

    def close(self) -> int:
        """Its exit code."""
        self.process.terminate()
        self.process.communicate()
        return self.process.returncode


def client(address: str, asked: Sequence[str]) -> list[float]:
    """Seconds of each request, over one connection."""
    connection, took = http.client.HTTPConnection(address, timeout=300), []
    for text in asked:
        begin = time.perf_counter()
        body = json.dumps({"input": text, "encoding_format": "base64"})
        connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {said.decode()}")
        took.append(time.perf_counter() - begin)
    connection.close()
    return took


def measured(server: Server, asked: Sequence[str], clients: int) -> tuple[float, float, list[float]]:
    """(CPU seconds of the server, seconds of the clock, sorted seconds of requests)."""
    cpu, clock = server.seconds(), time.perf_counter()
    parts = [asked[k::clients] for k in range(clients)]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        took = sorted(one for part in pool.map(client, [server.address] * clients, parts) for one in part)
    return server.seconds() - cpu, time.perf_counter() - clock, took


def main(argv: Sequence[str]) -> int:
    """Prints a row for every number of clients."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="an encoder, as jaxlm embed takes it")
    parser.add_argument("--clients", default="1,8,64", help="numbers of clients; default: 1,8,64")
    parser.add_argument("--texts", type=int, default=512, help="requests for each; default: 512")
    options = parser.parse_args(argv[1:])
    asked = texts(options.texts)
    alone, one_by_one = embedded(options.run, asked)
    slow = f"{1 / one_by_one:.1f} one by one ({alone / one_by_one:.0%})"
    print(f"jaxlm embed: {1 / alone:.1f} texts per CPU second, {slow}", flush=True)
    server = Server(f"model={options.run}")
    print("| clients | texts per CPU s | of jaxlm embed | texts/s | p50 ms | p95 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|")
    for clients in map(int, options.clients.split(",")):
        cpu, clock, took = measured(server, asked, clients)
        at = lambda share, took=took: 1000 * took[min(len(took) - 1, int(share * len(took)))]
        rate = len(asked) / cpu
        speed = f"{rate:.1f} | {rate * alone:.0%} | {len(asked) / clock:.1f}"
        print(f"| {clients} | {speed} | {at(0.5):.0f} | {at(0.95):.0f} | {at(0.99):.0f} |", flush=True)
    return server.close()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv))
