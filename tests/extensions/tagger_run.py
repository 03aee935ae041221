"""The tagger on a corpus of {"tokens": [...], "tags": [...]}, which comes from the command line."""

from jaxlm.config import Run, Stage
from jaxlm.data.corpus.columns import Tags
from tests.extensions.tagger import Tagger
from tests.recipes import tiny


def get_config() -> Run:
    """Tiny, of one layer, 40 steps; several sentences share a row."""
    run = tiny.get_config()
    run.objective = Tagger(column="tags", labels=("LOC", "PER"))
    run.data.text_field = "tokens"
    run.data.columns = (Tags(field="tags", text="tokens", between=" ", scheme="bio"),)
    run.model.layers, run.stages, run.steps = 1, (Stage(length=32, share=1.0),), 40
    return run
