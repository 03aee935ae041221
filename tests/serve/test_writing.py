"""Claims about a server of a model that writes: its texts are those of `jaxlm generate`, whole or piece by piece."""

import json
import re
import socket
import time

import numpy as np
import pytest

from jaxlm.infer import answers, frame, loaded
from jaxlm.infer.sampling import Sampling
from tests.serve import places

PROMPTS = ["The cat", "the dog ran to the"]
GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def ready(written):
    return loaded.load(written)


@pytest.fixture(scope="module")
def client(writer):
    openai = pytest.importorskip("openai", reason="needs the extra `test` (openai)")
    return openai.OpenAI(base_url=f"{writer.url}/v1", api_key="any", max_retries=0)


def right(ready, prompts=PROMPTS, around=None, **changed):
    how = {"new_tokens": 24, "sampling": Sampling(), "seed": 0} | changed
    return answers.answer(ready, around or frame.of_loaded(ready), prompts, **how)[0]


def test_completions_are_those_of_generate(client, ready):
    found = client.completions.create(model="gpt", prompt=PROMPTS, logprobs=0, **GREEDY)
    for choice, one in zip(found.choices, right(ready), strict=True):
        assert choice.text == one.text
        assert choice.finish_reason == ("length" if one.written.reason == "length" else "stop")
        np.testing.assert_allclose(choice.logprobs.token_logprobs, one.written.log_probabilities, atol=1e-5)
    tokens = [len(one.written.tokens) for one in right(ready)]
    assert found.usage.completion_tokens == sum(tokens) and found.usage.total_tokens > sum(tokens)
    ids = ready.tokenizer.encode_marked(PROMPTS[0])
    assert (
        client.completions.create(model="gpt", prompt=ids, **GREEDY).choices[0].text == found.choices[0].text
    )


def test_a_stream_s_pieces_are_the_whole(client, ready):
    pieces = list(client.completions.create(model="gpt", prompt=PROMPTS[0], stream=True, **GREEDY))
    assert "".join(one.choices[0].text for one in pieces) == right(ready)[0].text
    assert len(pieces) > 1 and pieces[-1].choices[0].finish_reason in ("stop", "length")


def test_a_stop_text_ends_an_answer_and_what_may_become_one_waits(client, ready):
    text = right(ready)[1].text
    stop = text[len(text) // 2 :][:3]
    expected = text.split(stop)[0]
    found = client.completions.create(
        model="gpt", prompt=PROMPTS[1], stop=[stop, "zzz"], logprobs=0, **GREEDY
    )
    assert (found.choices[0].text, found.choices[0].finish_reason) == (expected, "stop")
    said = "".join(found.choices[0].logprobs.tokens)
    assert stop in said and stop not in said[: -len(found.choices[0].logprobs.tokens[-1])]
    assert found.usage.completion_tokens == len(found.choices[0].logprobs.tokens)
    pieces = client.completions.create(model="gpt", prompt=PROMPTS[1], stop=stop, stream=True, **GREEDY)
    assert "".join(one.choices[0].text for one in pieces) == expected


def test_the_same_seed_writes_the_same_and_n_gives_others(client):
    ask = lambda **more: [
        one.text
        for one in client.completions.create(
            model="gpt", prompt="The", max_tokens=16, temperature=1.0, **more
        ).choices
    ]
    assert ask(seed=5, n=3) == ask(seed=5, n=3) and len(set(ask(seed=5, n=3))) == 3
    assert ask(seed=5) == ask(seed=5, n=2)[:1] != ask(seed=6)


MESSAGES = [
    {"role": "system", "content": "the cat"},
    {"role": "user", "content": [{"type": "text", "text": "a dog"}]},
]


def test_a_conversation_stands_in_the_model_s_template(client, ready):
    prompt = "system: the cat user: a dog assistant:"
    around = frame.of_loaded(ready)
    (expected,) = right(ready, [prompt], around, new_tokens=20)
    how = {"model": "gpt", "messages": MESSAGES, "temperature": 0, "max_completion_tokens": 20}
    found = client.chat.completions.create(**how, logprobs=True, user="me", store=False)
    assert found.choices[0].message.content == expected.text and found.choices[0].message.role == "assistant"
    each = [one.logprob for one in found.choices[0].logprobs.content]
    np.testing.assert_allclose(each, expected.written.log_probabilities, atol=1e-5)
    chunks = list(client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == expected.text
    assert chunks[-1].usage == found.usage and chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == found.choices[0].finish_reason


def test_the_likeliest_tokens_are_told_beside_the_chosen_one(client, writer):
    if not writer.state.models["gpt"].writer.likeliest:
        pytest.skip("one text after the other: the likeliest are not told")
    how = {"model": "gpt", "messages": MESSAGES, "temperature": 0, "max_tokens": 5, "logprobs": True}
    found = client.chat.completions.create(**how, top_logprobs=3).choices[0].logprobs.content
    for one in found:  # greedy: the chosen one is the first
        assert [best.logprob for best in one.top_logprobs] == sorted(
            (b.logprob for b in one.top_logprobs), reverse=True
        )
        assert len(one.top_logprobs) == 3 and one.top_logprobs[0].logprob == pytest.approx(
            one.logprob, abs=1e-5
        )


def test_a_stream_ends_with_done(writer):
    status, text = writer.ask(
        "/v1/completions", {"prompt": "The cat", "stream": True, "max_tokens": 2, "temperature": 0}
    )
    events = text.strip().split("\n\n")
    assert status == 200 and events[-1] == "data: [DONE]"
    assert all(json.loads(one.removeprefix("data: "))["choices"] for one in events[:-1])


def test_hugging_face_s_client_writes_too(writer, ready):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra `test` (huggingface_hub)")
    client = hub.InferenceClient(model=writer.url)
    expected = right(ready)[0]
    assert client.text_generation(PROMPTS[0], max_new_tokens=24) == expected.text
    assert "".join(client.text_generation(PROMPTS[0], max_new_tokens=24, stream=True)) == expected.text
    chat = hub.InferenceClient(base_url=f"{writer.url}/v1")
    found = chat.chat_completion(messages=[{"role": "user", "content": "a"}], max_tokens=3, temperature=0.01)
    assert found.usage.completion_tokens <= 3


def test_langchain_s_client_writes_too(writer):
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    model = langchain.ChatOpenAI(
        base_url=f"{writer.url}/v1", api_key="x", model="gpt", max_tokens=4, temperature=0
    )
    assert "".join(one.content for one in model.stream("a dog")) == model.invoke("a dog").content
    assert isinstance(
        langchain.OpenAI(base_url=f"{writer.url}/v1", api_key="x", model="gpt", max_tokens=4).invoke("a"), str
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tools": [{"type": "function"}]}, "tools: .* is not done here"),
        ({"response_format": {"type": "json_object"}}, "response_format: .* is not done here"),
        ({"top_logprobs": 21}, "top_logprobs: must be 0 to"),
        ({"n": 17}, "n: must be 1 to 16"),
        ({"temperature": -1}, "temperature: must be 0 to 100"),
        ({"temperature": "hot"}, "temperature: must be a number"),
        ({"max_tokens": 0}, "max_tokens: must be 1 to"),
        ({"stop": [""]}, "stop: must be a string, or at most 16"),
        ({"messages": []}, "messages: must be a list"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only parts of the type text"),
        ({"messages": [{"role": "user", "content": "cat " * 100}]}, "has .* tokens, and the model reads 64"),
    ],
)
def test_what_is_not_done_is_refused_by_name(writer, body, message):
    whole = {"messages": [{"role": "user", "content": "a"}]} | body
    status, found = writer.ask("/v1/chat/completions", whole)
    assert status == 400 and re.search(message, found["error"]["message"]), found


def test_a_model_without_a_template_says_where_to_go(tmp_path):
    with places.running({"plain": places.writer(tmp_path / "gpt2", "")}) as found:
        status, said = found.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})
        assert status == 400 and "POST /v1/completions takes its prompts" in said["error"]["message"]


def test_a_client_that_vanishes_ends_its_text(writer):
    host, port = writer.url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "The cat", "stream": True, "n": 16, "max_tokens": 60, "seed": 1}).encode()
    with socket.create_connection((host, int(port))) as made:
        made.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert b" 200 " in made.recv(100)
    end = time.monotonic() + 60
    while writer.state.under_way:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (
        writer.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200
    )  # the writer is free again
