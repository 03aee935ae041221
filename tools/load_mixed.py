"""Loads a server of an encoder and a decoder for minutes, and says whether it stays as it was.

    python tools/load_mixed.py --encoder=hf:path/to/minilm --decoder=hf:path/to/smollm2 --minutes=10 --clients=1,8,64

Each client embeds three texts, then streams an answer of 8 to 48 tokens, again and again. A row for each number of
clients: requests, errors, the CPU seconds that `jaxlm embed` (all texts at once) and `generate` (batches of 8) would
take for the same texts and tokens as a share of the server's, percentiles of the time to the first token, memory of the
process before and after. Then so many connections are open at once, and each asks for a vector: how many were answered
(200), how many told to come again (429), how many got nothing. On a busy machine the clock says little.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import dataclasses
import http.client
import json
import pathlib
import random
import sys
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools import load_test  # noqa: E402 - found only once the path is set

PROMPT, MOST = 48, 48  # words of a prompt at most; tokens of an answer at most


@dataclasses.dataclass
class Seen:
    """What one client saw."""

    texts: int = 0
    answers: int = 0
    tokens: int = 0
    first: list[float] = dataclasses.field(default_factory=list)  # seconds to the first token
    errors: list[str] = dataclasses.field(default_factory=list)


def ask(connection: http.client.HTTPConnection, route: str, body: dict) -> http.client.HTTPResponse:
    """The answer of a POST."""
    connection.request("POST", route, json.dumps(body), {"content-type": "application/json"})
    return connection.getresponse()


def stream(connection: http.client.HTTPConnection, prompt: str, number: int, seed: int, seen: Seen) -> None:
    """One answer, piece by piece."""
    begin, first, usage = time.perf_counter(), None, None
    body = {"model": "writer", "prompt": prompt, "max_tokens": number, "seed": seed, "stream": True}
    answer = ask(connection, "/v1/completions", body | {"stream_options": {"include_usage": True}})
    if answer.status != 200:
        seen.errors.append(f"{answer.status}: {answer.read().decode()}")
        return
    for line in answer:
        if line.startswith(b"data: {"):
            first = first or time.perf_counter() - begin
            said = json.loads(line[6:])
            usage = said.get("usage") or usage
            if "error" in said:
                seen.errors.append(str(said["error"]))
    if first is None or usage is None:
        seen.errors.append("a stream without a token")
        return
    seen.first.append(first)
    seen.answers, seen.tokens = seen.answers + 1, seen.tokens + usage["completion_tokens"]


def client(address: str, until: float, number: int) -> Seen:
    """Asks until that time."""
    draw, seen, texts = random.Random(number), Seen(), load_test.texts(256)
    connection = http.client.HTTPConnection(address, timeout=600)
    while time.monotonic() < until and len(seen.errors) < 10:
        for text in draw.sample(texts, 3):
            answer = ask(connection, "/v1/embeddings", {"model": "encoder", "input": text})
            said = answer.read()
            if answer.status == 200:
                seen.texts += 1
            else:
                seen.errors.append(f"{answer.status}: {said.decode()}")
        prompt = " ".join(draw.choice(texts).split()[:PROMPT])
        stream(connection, prompt, draw.randint(8, MOST), draw.randrange(2**31), seen)
    connection.close()
    return seen


def alone(encoder: str, decoder: str) -> tuple[float, float]:
    """CPU seconds of a text and of a token, of `jaxlm embed` with all texts and of `generate` with 8 at once."""
    from jaxlm.infer import frame, loaded
    from jaxlm.infer.generate import generate
    from jaxlm.infer.sampling import Sampling

    of_text, _ = load_test.embedded(encoder, load_test.texts(256))
    ready, draw = loaded.load(decoder), random.Random(0)
    around = frame.of_loaded(ready)
    asked = [" ".join(text.split()[:PROMPT]) for text in draw.sample(load_test.texts(256), 16)]
    prompts = [ready.tokenizer.encode(text) for text in asked]

    def written() -> int:
        """As a user asks: all answers of a batch as long as the longest, of which each wants its own part."""
        wanted = [draw.randint(8, MOST) for _ in prompts]
        for at in range(0, len(prompts), 8):
            new = max(wanted[at : at + 8])
            generate(
                ready,
                prompts[at : at + 8],
                around,
                new_tokens=new,
                sampling=Sampling(temperature=1.0),
                seed=0,
            )
        return sum(wanted)

    for _ in range(2):
        begin = time.process_time()
        number = written()
    return of_text, (time.process_time() - begin) / number


def row(
    server: load_test.Server, clients: int, minutes: float, costs: tuple[float, float]
) -> tuple[str, int]:
    """A line of the table, and the number of errors."""
    before, memory = server.seconds(), server.said("process_resident_memory_bytes")
    until = time.monotonic() + 60 * minutes
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        seen = list(pool.map(client, [server.address] * clients, [until] * clients, range(clients)))
    took, after = server.seconds() - before, server.said("process_resident_memory_bytes")
    texts, tokens = sum(s.texts for s in seen), sum(s.tokens for s in seen)
    first = sorted(one for s in seen for one in s.first) or [float("nan")]
    errors = [error for s in seen for error in s.errors]
    for error in errors[:5]:
        print(f"error: {error}", file=sys.stderr)
    share = (texts * costs[0] + tokens * costs[1]) / took
    at = lambda part: 1000 * first[min(len(first) - 1, int(part * len(first)))]
    asked = f"{clients} | {texts} | {sum(s.answers for s in seen)} | {tokens} | {len(errors)}"
    return (
        f"| {asked} | {share:.0%} | {at(0.5):.0f} | {at(0.95):.0f} | {memory / 1e6:.0f} | {after / 1e6:.0f} |",
        len(errors),
    )


async def crowd(address: str, number: int) -> collections.Counter[str]:
    """Statuses of one request on each of so many connections, all of them open before the first asks."""
    host, port = address.split(":")
    body = json.dumps({"model": "encoder", "input": "one of many"}).encode()
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    opened = []
    for _ in range(number):
        opened.append(await asyncio.open_connection(host, int(port)))

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        try:
            writer.write(head.encode() + body)
            return (await asyncio.wait_for(reader.read(), 600)).split(b" ", 2)[1].decode()
        except (OSError, IndexError, TimeoutError) as error:
            return type(error).__name__
        finally:
            writer.close()

    return collections.Counter(await asyncio.gather(*(one(*pair) for pair in opened)))


def main(argv: Sequence[str]) -> int:
    """Prints the table; 1 if there was an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help="as jaxlm embed takes it")
    parser.add_argument("--decoder", required=True, help="as jaxlm generate takes it")
    parser.add_argument("--clients", default="1,8,64", help="numbers of clients; default: 1,8,64")
    parser.add_argument("--minutes", type=float, default=10, help="for each of them; default: 10")
    parser.add_argument("--connections", type=int, default=10_000, help="at once; default: 10000; 0: none")
    options = parser.parse_args(argv[1:])
    costs = alone(options.encoder, options.decoder)
    print(f"batches: {1 / costs[0]:.1f} texts, {1 / costs[1]:.1f} tokens per CPU second", flush=True)
    server = load_test.Server(f"encoder={options.encoder}", f"writer={options.decoder}")
    print(
        "| clients | texts | answers | tokens | errors | CPU of batches | first token p50 ms | p95 | MB | MB after |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    wrong = 0
    for clients in map(int, options.clients.split(",")):
        line, errors = row(server, clients, options.minutes, costs)
        print(line, flush=True)
        wrong += errors
    if options.connections:
        found = asyncio.run(crowd(server.address, options.connections))
        print(f"{options.connections} connections at once: {dict(found)}", flush=True)
        again = row(server, 1, 0.05, costs)  # and now as before
        wrong += sum(number for status, number in found.items() if status not in ("200", "429")) + again[1]
    return int(server.close() != 0 or wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
