"""Servers that are started once."""

import pytest

pytest.importorskip("starlette", reason="needs the extra `serve`")

from jaxlm.serve.limits import Limits
from tests.exchange.folders import hf_folder
from tests.serve import places


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("serve")
    return {
        "vectors": f"hf:{hf_folder(root / 'vectors', heads=('pooler',))}",
        "masks": f"hf:{hf_folder(root / 'masks', heads=('tokens',))}",
        "judge": places.classifier(root / "judge", ("bad", "good")),
        "ranker": places.classifier(root / "ranker", ("score",)),
        "tagger": places.classifier(root / "tagger", ("O", "B-x"), "tags"),
        "reader": f"hf:{hf_folder(root / 'reader', heads=('span',))}",
    }


@pytest.fixture(scope="session")
def encoders(folders):
    with places.running(folders) as found:
        yield found


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    return places.writer(tmp_path_factory.mktemp("writer") / "gpt2")


@pytest.fixture(scope="session", params=[1, 8], ids=["in rows", "one by one"])
def writer(written, request):
    """On one device, and on several."""
    with places.running({"gpt": written}, limits=Limits(batch=4, rows=3), devices=request.param) as found:
        yield found
