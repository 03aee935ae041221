"""PyTorch's own files, both containers: the tensors that torch.save put in."""

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.formats import torch_file

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")


@pytest.mark.parametrize("zipped", [True, False])
def test_every_kind_of_tensor_comes_out_as_it_went_in(tmp_path, zipped):
    torch.manual_seed(0)
    weight = torch.randn(6, 5)
    state = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict with metadata
    state |= {
        "weight": weight,
        "view": weight.t()[1:3],
        "half": torch.randn(3, 4).half(),
        "bfloat16": torch.randn(7).bfloat16(),
        "ids": torch.arange(5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "mask": torch.tensor([True, False]),
    }
    torch.save(state, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    entries = torch_file.entries(tmp_path / "x.bin")
    assert set(entries) == set(state)
    for name, tensor in state.items():
        array = entries[name].read(())
        assert array.shape == tuple(tensor.shape) and array.dtype == entries[name].dtype
        assert np.array_equal(array.astype(np.float32), tensor.detach().float().numpy()), name
    assert np.array_equal(entries["weight"].read((slice(1, 3), slice(2, 4))), weight[1:3, 2:4].numpy())


@pytest.mark.parametrize("what", ["module", "sparse", "quantised"])
def test_what_is_no_plain_tensor_is_refused(tmp_path, what):
    made = {
        "module": lambda: torch.nn.Linear(2, 2),
        "sparse": lambda: {"w": torch.eye(3).to_sparse()},
        "quantised": lambda: {"w": torch.empty(3, dtype=torch.float8_e4m3fn)},
    }[what]()
    torch.save(made, tmp_path / "x.bin")
    with pytest.raises(UserError, match="refused: it calls for torch"):
        torch_file.entries(tmp_path / "x.bin")
