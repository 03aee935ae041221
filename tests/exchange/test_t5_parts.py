"""A T5 for tasks that read: its encoder tags words, the whole of it answers questions, as transformers' classes do."""

import dataclasses

import numpy as np
import pytest

import jaxlm
from jaxlm.config import Stage, flags
from jaxlm.errors import UserError
from jaxlm.exchange import exporting, importing, starting
from jaxlm.infer import extract
from jaxlm.models.t5 import T5
from jaxlm.models.t5_encoder import T5Encoder
from tests.exchange import transformers_folders
from tests.objectives.test_question_answering import squad, write
from tests.objectives.test_tagging import conll, sentences

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

QUIET = lambda line: None


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A folder of a T5ForConditionalGeneration."""
    return transformers_folders.save("t5", tmp_path_factory.mktemp("t5"))


def trained(recipe, corpus, place, **settings):
    """The folder of a few steps with large ones, and what was said."""
    run = jaxlm.load_recipe(recipe)
    run.data.corpus, run.data.cache, run.data.validation_share = str(corpus), str(place / "cache"), 0.25
    run.objective = dataclasses.replace(run.objective, **settings)
    run.stages, run.steps, run.batch_size, run.check_isolation = (Stage(length=64, share=1.0),), 4, 8, False
    run.optimizer.schedule.peak, run.evaluation.every_steps, run.checkpoint.every_steps = 1e-2, 0, 0
    run.evaluators, run.checkpoint.keep.best_metric = (), "eval/loss"
    run.checkpoint.keep.best_mode = "min"
    assert jaxlm.fit(run, workdir=place / "run").code == 0
    return place / "run", (place / "run" / "run.log").read_text()


def test_its_encoder_becomes_a_tagger_that_transformers_reads(t5, tmp_path):
    table = conll(tmp_path / "train.conll", sentences(40))
    run, said = trained(f"tagging:hf:{t5}", table, tmp_path, max_tokens=60)
    model = jaxlm.load(run)
    assert type(model.model.config) is T5Encoder and "left behind, which this model lacks (decoder/" in said
    folder = model.export(tmp_path / "hf")
    hf = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    assert type(hf).__name__ == "T5ForTokenClassification"
    texts = [" ".join(word for word, _ in one) for one in sentences(6, seed=3)]
    pipe = transformers.pipeline("token-classification", str(folder), aggregation_strategy="first")
    ours = [one["spans"] for one in model.predict(texts)]
    for theirs, mine in zip(pipe(texts), ours, strict=True):
        expected = [(one["start"], one["end"], one["label"]) for one in mine]
        assert [(one["start"], one["end"], one["entity_group"]) for one in theirs] == expected
    assert [one["spans"] for one in jaxlm.load(f"hf:{folder}").predict(texts)] == ours
    assert type(flags.load(f"tagging:{run}").model) is T5Encoder


def test_the_whole_of_it_answers_questions_as_in_transformers(t5, tmp_path):
    table = write(tmp_path / "train.json", squad(40))
    more = {"max_tokens": 60, "overlap": 5, "question_tokens": 20}
    run, _ = trained(f"question_answering:hf:{t5}", table, tmp_path, **more)
    model = jaxlm.load(run)
    assert type(model.model.config) is T5
    folder = model.export(tmp_path / "hf")
    hf = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    assert type(hf).__name__ == "T5ForQuestionAnswering"
    words = transformers.AutoTokenizer.from_pretrained(folder)
    question, text = "colour colour?", "the old red house near a lake with two boats"
    theirs = words(question, text, return_tensors="pt")
    (context,) = [[i for i, of in enumerate(theirs.sequence_ids(0)) if of == 1]]
    with torch.no_grad():
        said = hf(input_ids=theirs["input_ids"])
    both = torch.stack([said.start_logits[0], said.end_logits[0]], -1)[[0, *context]].numpy()
    ((ours,),) = extract.scores(model, model.stored.run.objective, [(question, text)])
    np.testing.assert_allclose(ours, both, atol=2e-4)
    found = model.predict([(question, text)])[0]
    assert jaxlm.load(f"hf:{folder}").predict([(question, text)])[0]["predicted"] == found["predicted"]


def test_a_folder_of_the_encoder_alone_is_read_and_written(t5, tmp_path):
    hf = transformers.T5EncoderModel.from_pretrained(t5).eval()
    hf.save_pretrained(tmp_path / "hf")
    for file in t5.glob("*token*"):
        (tmp_path / "hf" / file.name).write_bytes(file.read_bytes())
    importing.from_hf(str(tmp_path / "hf"), tmp_path / "model", say=QUIET)
    exporting.to_hf(tmp_path / "model", tmp_path / "out", say=QUIET)
    again = transformers.T5EncoderModel.from_pretrained(tmp_path / "out").eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).last_hidden_state, hf(ids).last_hidden_state)


def test_what_no_part_of_it_can_learn_is_still_refused_with_what_can(t5):
    with pytest.raises(UserError, match="is a T5. Fix: jaxlm train continue_seq2seq:hf:"):
        flags.load(f"continue_mlm:hf:{t5}")
    run = flags.load(f"tagging:hf:{t5}")
    run.model.encoder_layers += 1
    with pytest.raises(UserError, match=r"config\.model\.encoder_layers=\d, but hf:.* has \d"):
        starting.check(run, print)
