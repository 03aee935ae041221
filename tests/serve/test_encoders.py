"""Claims about a server of encoders: what its routes answer is what the commands answer, to the clients that people have."""

import base64
import concurrent.futures
import json
import re

import numpy as np
import pytest

from jaxlm.infer import fill_mask, loaded, text_reading
from jaxlm.tasks import of as tasks

TEXTS = [
    "the cat sat on the mat",
    "a dog",
    "the garden has a red door and a cat and a dog play in the garden",
    "mat",
]


@pytest.fixture(scope="module")
def expected(folders):
    return text_reading.vectors(loaded.load(folders["vectors"]), TEXTS)[0]


def test_openai_s_client_gets_the_vectors_of_embed(encoders, expected):
    openai = pytest.importorskip("openai", reason="needs the extra `test` (openai)")
    client = openai.OpenAI(base_url=f"{encoders.url}/v1", api_key="any", max_retries=0)
    for form in ({}, {"encoding_format": "float"}):
        found = client.embeddings.create(model="vectors", input=TEXTS, **form)
        np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-6)
    assert [one.index for one in found.data] == [0, 1, 2, 3] and found.usage.prompt_tokens > len(TEXTS) * 2
    one = client.embeddings.create(model="vectors", input=TEXTS[0], dimensions=expected.shape[1], user="me")
    np.testing.assert_allclose(one.data[0].embedding, expected[0], atol=1e-6)
    assert {one.id for one in client.models.list()} == set(encoders.state.models)
    assert client.models.retrieve("vectors").owned_by == "jaxlm"
    with pytest.raises(openai.NotFoundError, match="there is no 'other'; models: vectors, masks"):
        client.embeddings.create(model="other", input="a")
    with pytest.raises(openai.BadRequestError, match="dimensions: vectors of this model have 24"):
        client.embeddings.create(model="vectors", input="a", dimensions=5)
    with pytest.raises(openai.BadRequestError, match="model judge cannot embed texts"):
        client.embeddings.create(model="judge", input="a")
    with pytest.raises(openai.BadRequestError, match="model vectors cannot write"):
        client.chat.completions.create(model="vectors", messages=[{"role": "user", "content": "a"}])
    with pytest.raises(openai.NotFoundError, match="there is no route /v1/responses"):
        client.responses.create(model="vectors", input="a")


def test_texts_may_be_ids(encoders, expected, folders):
    tokenizer = loaded.load(folders["vectors"]).tokenizer
    ids = [one.tolist() for one in tokenizer.encode_batch(TEXTS)]
    status, found = encoders.ask(
        "/v1/embeddings", {"model": "vectors", "input": ids, "encoding_format": "base64"}
    )
    vectors = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in found["data"]]
    assert status == 200
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert encoders.ask("/v1/embeddings", {"input": ids[1]})[1]["data"][0]["embedding"] == pytest.approx(
        expected[1].tolist(), abs=1e-6
    )
    status, found = encoders.ask("/v1/embeddings", {"input": [[10**6]]})
    assert status == 400 and "token ids are whole numbers from 0 to" in found["error"]["message"]


def test_many_clients_at_once_get_their_own_answers_in_common_batches(encoders, expected):
    before = _batches(encoders)
    ask = lambda k: encoders.ask("/embed", {"model": "vectors", "inputs": TEXTS[k % 4]})[1][0]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(160)))
    np.testing.assert_allclose(found, expected[np.arange(160) % 4], atol=1e-6)
    assert _batches(encoders) - before < 160  # some were computed together


def _batches(server) -> float:
    lines = server.get("/metrics")[1].splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("jaxlm_batch_rows_count"))


def test_hugging_face_s_client_gets_what_the_model_is_for(encoders, folders, expected):
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra `test` (huggingface_hub)")
    client = lambda name: hub.InferenceClient(model=f"{encoders.url}/models/{name}")
    np.testing.assert_allclose(client("vectors").feature_extraction(TEXTS[0])[0], expected[0], atol=1e-6)
    found = client("vectors").sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(found, expected[1:] @ expected[0], atol=1e-6)

    (right,) = fill_mask.fill(loaded.load(folders["masks"]), ["the cat [MASK]"], top=3)
    masks = client("masks").fill_mask("the cat [MASK]", top_k=3)
    assert [one.score for one in masks] == pytest.approx([share for _, share in right.candidates], abs=1e-6)
    assert masks[0].sequence.startswith("the cat ") and masks[0].token_str in masks[0].sequence

    judge = tasks.of(loaded.load(folders["judge"]), max_new_tokens=1)
    (shares,) = judge.ask([("the cat",)])
    found = client("judge").text_classification("the cat")
    assert {one.label: one.score for one in found} == pytest.approx(
        dict(zip(("bad", "good"), shares, strict=True)), abs=1e-6
    )

    tagger = tasks.of(loaded.load(folders["tagger"]), max_new_tokens=1)
    spans = tagger.answer([(TEXTS[0],)], tagger.ask([(TEXTS[0],)]))[0]["spans"]
    found = client("tagger").token_classification(TEXTS[0])
    assert [(one.start, one.end, one.entity_group) for one in found] == [
        (one["start"], one["end"], one["label"]) for one in spans
    ]
    item = ("the cat", TEXTS[2])
    reader = tasks.of(loaded.load(folders["reader"]), max_new_tokens=1)
    (right,) = reader.answer([item], reader.ask([item]))
    found = client("reader").question_answering(question=item[0], context=item[1])
    assert found.answer == right["predicted"] and found.score == pytest.approx(right["probability"], abs=1e-6)


def test_pairs_are_classified_and_ranked_in_one_row(encoders, folders):
    pair = ("the cat", "a dog")
    judge = tasks.of(loaded.load(folders["judge"]), max_new_tokens=1, fields=("text", "text_pair"))
    (shares,) = judge.ask([pair])
    _, found = encoders.ask("/predict", {"model": "judge", "inputs": list(pair)})
    assert {one["label"]: one["score"] for one in found} == pytest.approx(
        dict(zip(("bad", "good"), shares, strict=True)), abs=1e-6
    )
    _, several = encoders.ask("/predict", {"model": "judge", "inputs": [list(pair), list(pair)]})
    assert several == [found, found]

    ranker = tasks.of(loaded.load(folders["ranker"]), max_new_tokens=1, fields=("text", "text_pair"))
    raw = [float(one[0]) for one in ranker.ask([("a cat", text) for text in TEXTS])]
    _, found = encoders.ask(
        "/rerank", {"query": "a cat", "texts": TEXTS, "raw_scores": True, "return_text": True}
    )
    assert [one["score"] for one in found] == pytest.approx(sorted(raw, reverse=True), abs=1e-5)
    assert [one["text"] for one in found] == [TEXTS[k] for k in np.argsort(raw)[::-1]]
    _, found = encoders.ask("/rerank", {"query": "a cat", "texts": TEXTS})
    assert found[0]["score"] == pytest.approx(1 / (1 + np.exp(-max(raw))), abs=1e-6) and set(found[0]) == {
        "index",
        "score",
    }


def test_kserve_s_protocol_reads_one_tensor_of_texts(encoders, expected):
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
    status, found = encoders.ask("/v2/models/vectors/infer", {"id": "7", "inputs": [tensor]})
    (output,) = found["outputs"]
    assert (status, found["id"], output["shape"], output["datatype"]) == (200, "7", [4, 24], "FP32")
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), expected, atol=1e-6)
    _, about = encoders.get("/v2/models/vectors")
    assert about["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 24]}]
    _, found = encoders.ask("/v2/models/judge/infer", {"inputs": [tensor]})
    assert found["outputs"][0]["data"][0] in ("bad", "good") and found["outputs"][1]["shape"] == [4, 2]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/judge/ready", "/health"):
        assert encoders.get(path)[0] == 200
    status, found = encoders.ask("/v2/models/vectors/infer", {"inputs": [{**tensor, "shape": [3]}]})
    assert status == 400 and "inputs[0].shape: [3], and data has 4 texts" in found["error"]


def test_a_text_that_is_too_long_is_cut_or_refused_as_asked(encoders, expected):
    longer = " ".join(["cat"] * 100)
    assert encoders.ask("/embed", {"inputs": longer})[0] == 200
    status, found = encoders.ask("/embed", {"inputs": [TEXTS[0], longer], "truncate": False})
    assert status == 413 and "a text has 102 tokens, and the model reads 32" in found["error"]
    assert encoders.ask("/embed", {"inputs": TEXTS, "truncate": False})[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (
            "/v1/embeddings",
            {"input": []},
            400,
            "input: must be a string, or a list of strings that is not empty",
        ),
        ("/v1/embeddings", {"input": [1.5]}, 400, "input: token ids are whole numbers"),
        ("/v1/embeddings", {"input": ["a", 1]}, 400, "input: must be a string"),
        ("/v1/embeddings", {"model": 3, "input": "a"}, 400, "model: must be a string"),
        ("/v1/embeddings", {"input": ["a"] * 2049}, 413, "2049 texts in one request, and 2048 are allowed"),
        ("/v1/embeddings", [1], 400, "the body must be a JSON object, and is a list"),
        ("/v1/embeddings", b'{"input": "\xff"}', 400, "the body is no JSON in UTF-8"),
        ("/v1/embeddings", b'{"input": "a"', 400, "the body is no JSON"),
        ("/v1/embeddings", b'{"input": "\\ud800"}', 400, "the body is no JSON in UTF-8"),
        ("/v1/embeddings", b'{"input": NaN}', 400, "the body is no JSON"),
        ("/v1/embeddings", b"[" * 100_000, 400, "the body is no JSON"),
        ("/v1/embeddings", b"", 400, "the body is no JSON"),
        ("/embed", {"inputs": "a", "normalize": False}, 400, "normalize: vectors have length 1 here"),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, 400, "prompt_name: query is not done here"),
        ("/fill-mask", {"inputs": "the cat"}, 400, r"'the cat' has no \[MASK\] to fill"),
        ("/fill-mask", {"inputs": "a [MASK]", "parameters": {"top_k": 0}}, 400, "top_k: must be 1 to 100"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 400, "3 text.s. to classify together"),
        ("/question-answering", {"inputs": "a"}, 400, "inputs: must be {question, context}"),
        ("/nothing", {}, 404, "there is no route /nothing"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(encoders, path, body, status, message):
    got, found = encoders.ask(path, body)
    assert got == status
    error = found["error"]
    said = error["message"] if path.startswith("/v1") else error
    assert re.search(message, said), said
    if path.startswith("/v1"):
        assert set(error) == {"message", "type", "param", "code"}


def test_info_says_what_there_is(encoders):
    _, found = encoders.get("/info")
    assert found["model_id"] == "vectors" and found["max_input_length"] == 32
    assert found["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["models"]["masks"] == ["embed", "fill"] and found["models"]["ranker"] == ["classify", "rank"]
    assert json.dumps(found)
