"""The command trains a decoder and an encoder-decoder, and compares them with the unigram baseline."""

import re

import pytest

SMALL = (
    "--config.steps=6",
    "--config.batch_size=4",
    "--config.evaluation.rows=8",
    "--config.logging.every_steps=3",
)


@pytest.mark.parametrize("name", ["causal_lm", "span_corruption"])
def test_recipes_train_from_text_to_report(train_command, corpus, tmp_path, name):
    recipe = f"tests/recipes/objectives/{name}.py"
    sizes = (
        "--config.tokenizer.vocab_size=701",
        "--config.data.validation_share=0.2",
        "--config.show_batch=1",
    )
    process = train_command(tmp_path / "run", *SMALL, *sizes, recipe=recipe)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert re.search(
        r"held-out LM loss \d\.\d+ nats; unigram cross-entropy of the same tokens \d\.\d+ nats", output
    )
    assert "predicts: " in output and ("source: " in output) == (name == "span_corruption")
