"""A SavedModel: what TensorFlow computes of it is what jaxlm computes; without TensorFlow it is refused."""

import importlib.util

import pytest

from jaxlm.errors import UserError
from jaxlm.export import formats, savedmodel
from jaxlm.export.formats import Source
from jaxlm.models.heads import ClassifyText, Pooler
from tests.exchange import folders as tiny
from tests.export import models
from tests.infer import small_models as small

HEADS = {"pooler": Pooler(), "classes": ClassifyText(classes=3)}
CASES = {
    "encoder": (tiny.CONFIG, HEADS),
    "decoder": (small.LLAMA, {}),
    "both": (small.ENCODER_DECODERS["T5"], {}),
}
THERE = importlib.util.find_spec("tensorflow") is not None


@pytest.mark.slow
@pytest.mark.skipif(not THERE, reason="needs the extra tf")
@pytest.mark.parametrize("name", CASES)
def test_tensorflow_computes_what_we_do(name, tmp_path):
    source = Source(path=str(models.folder(tmp_path / "model", *CASES[name])))
    formats.write("savedmodel", source, tmp_path / "out", say=lambda _: None)
    found = savedmodel.check(source, tmp_path / "out", lambda _: None)
    assert len(found) >= 3 and all(one.fine for one in found), found


def test_without_tensorflow_the_fix_is_named(monkeypatch, tmp_path):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else there(name)
    )
    with pytest.raises(
        UserError, match=r"needs TensorFlow. Fix: pip install 'jaxlm\[tf\]', or --format=stablehlo"
    ):
        formats.write("savedmodel", Source(path="nowhere"), tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_call_takes_the_place_of_what_tensorflow_does_not_read():
    line = (
        '%5 = stablehlo.composite "chlo.erf" %4 {decomposition = @chlo.erf.impl_0, version = 1 : i32} : (tensor<?xf32>)'
        " -> tensor<?xf32>"
    )
    assert savedmodel.called(line) == "%5 = func.call @chlo.erf.impl_0(%4) : (tensor<?xf32>) -> tensor<?xf32>"
    attributes = line.replace("{dec", "{composite_attributes = {largest = true}, dec")
    assert savedmodel.called(attributes).startswith("%5 = func.call @chlo.erf.impl_0(%4) :")
