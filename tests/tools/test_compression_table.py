"""The table of schemes: a line for each, with what it measures."""

from jaxlm.compress.calibration import Text
from tests.compress import models
from tools import compression_table


def test_every_scheme_is_a_line(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(models.TEXTS * 4))
    model = models.opened(models.decoder(tmp_path / "decoder"))
    text = Text(file=str(path), rows=4, length=16).read(model)
    schemes = ["int8, smoothed", "nf4, groups of 32"]
    first, *lines = compression_table.lines(model, text, str(path), schemes)
    assert first.startswith("| as it was | ") and "(1.00 x)" in first
    for name, line in zip(schemes, lines, strict=True):
        assert line.startswith(f"| {name} | ") and "perplexity" in line and line.count("|") == 5
    assert compression_table.SCHEMES.keys() >= {"int8", "int4, groups of 32, GPTQ"}
