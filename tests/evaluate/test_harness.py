"""Claims about the LM evaluation harness: our model scores and writes what its Hugging Face backend does, task by task."""

import json
import pathlib
import sys

import pytest

from jaxlm.commands import lm_eval as command
from tests.infer.test_likelihood import folder

lm_eval = pytest.importorskip("lm_eval", reason="needs the extra `lm_eval`")

_TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {data}}}, cache_dir: {data}-cache}}
validation_split: validation
"""
KINDS = {
    "choose": """\
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "foresee": """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "write": """\
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", "zz"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}
ROWS = [
    {"text": "the cat sat on", "choices": ["the mat", "a dog", "it"], "label": 1, "answer": "x"},
    {"text": "", "choices": ["the garden", "a red door"], "label": 0, "answer": "x"},
    {"text": "the garden has a red ", "choices": ["door", "mat"], "label": 0, "answer": "x"},
    {
        "text": "the cat sat on the mat and a dog sat on it " * 8,
        "choices": ["cat", "dog"],
        "label": 0,
        "answer": "x",
    },
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder of tasks, our model, theirs)."""
    root = tmp_path_factory.mktemp("harness")
    for name, text in KINDS.items():
        data = root / f"{name}.jsonl"
        rows = [row for row in ROWS if row["text"] or name == "choose"]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (root / f"{name}.yaml").write_text(_TASK.format(name=name, data=data) + text)
    return root, *folder("GPT-2", root / "gpt2")


def scored(model, root):
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(root), include_defaults=False)
    return lm_eval.simple_evaluate(
        model=model,
        tasks=list(KINDS),
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
        cache_requests=False,
    )


def test_scores_and_texts_are_those_of_the_hugging_face_backend(place, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from lm_eval.models.huggingface import HFLM

    from jaxlm.evaluate.harness import Harness

    root, ours, hf = place
    import transformers

    words = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(root / "gpt2" / "tokenizer.json"),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
    )
    sizes = {"max_length": 40}
    found = scored(Harness(run=ours.where, **sizes), root)
    expected = scored(HFLM(pretrained=hf, tokenizer=words, batch_size=1, **sizes), root)
    for name in KINDS:
        for one, other in zip(found["samples"][name], expected["samples"][name], strict=True):
            if name == "write":
                assert one["resps"] == other["resps"]
            for a, b in zip(one["filtered_resps"], other["filtered_resps"], strict=True):
                if name == "choose":
                    assert a[0] == pytest.approx(b[0], abs=1e-3) and a[1] == b[1]
                elif name == "foresee":
                    assert a == pytest.approx(b, rel=1e-4)
        for metric, value in expected["results"][name].items():
            if isinstance(value, float):
                assert found["results"][name][metric] == pytest.approx(value, rel=1e-4), (name, metric)


def test_its_own_command_line_runs_with_our_model(place, monkeypatch, capsys, tmp_path):
    root, ours, _ = place
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    words = ["--model", "jaxlm", "--model_args", f"run={ours.where},max_length=40", "--tasks", "choose"]
    assert command.main(["lm_eval", *words, "--include_path", str(root), "--output_path", str(tmp_path)]) == 0
    assert "acc_norm" in capsys.readouterr().out
    (results,) = pathlib.Path(tmp_path).rglob("results_*.json")
    assert json.loads(results.read_text())["results"]["choose"]["acc,none"] is not None
