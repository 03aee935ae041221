"""The original BERT release, without TensorFlow: files that TensorFlow 2.21's tf.compat.v1.train.Saver wrote.

bert_tf/ is a BERT of 2 layers, width 4, 2 heads, 6 hidden units, 11 tokens, 5 positions, with `global_step` and one
variable of Adam. Entry k of the n-th variable by name is 1000 n + k.
"""

import pathlib
import shutil

import numpy as np
import pytest

from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.formats import tensorflow_file
from jaxlm.models.bert import Bert

PREFIX = pathlib.Path(__file__).parent / "bert_tf" / "bert_model.ckpt"


def test_every_variable_has_its_numbers():
    found = tensorflow_file.variables(PREFIX)
    assert found["global_step"].read(()) == 7 and found["global_step"].dtype == np.int64
    weights = sorted(name for name in found if name != "global_step" and "adam" not in name)
    assert len(weights) == 46
    for number, name in enumerate(weights):
        array = found[name].read(())
        assert np.array_equal(array.ravel(), 1000 * number + np.arange(array.size)), name


def test_names_and_layouts_are_those_of_transformers_and_the_import_is_complete():
    found = tensorflow_file.entries(PREFIX)
    config = Bert(
        vocab_size=11,
        hidden=4,
        layers=2,
        heads=2,
        mlp=6,
        max_positions=5,
        types=2,
        dropout=0.1,
        attention_dropout=0.1,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.02,
        position_init="normal",
    )
    params = families.import_params({name: entry.read(()) for name, entry in found.items()}, config)
    variables = tensorflow_file.variables(PREFIX)
    kernel = variables["bert/encoder/layer_1/intermediate/dense/kernel"].read(())
    assert np.array_equal(params["blocks"]["mlp"]["w_in"][1], kernel)  # TensorFlow's layout is ours
    query = variables["bert/encoder/layer_0/attention/self/query/kernel"].read(())
    assert np.array_equal(params["blocks"]["attention"]["wq"][0].reshape(4, 4), query)
    classes = variables["cls/seq_relationship/output_weights"].read(())
    assert np.array_equal(params["heads"]["nsp"]["w"], classes.T)


def test_the_folder_of_the_release_is_read_with_its_own_config_and_vocabulary(tmp_path):
    import json

    from jaxlm.exchange import stored

    for file in PREFIX.parent.iterdir():
        shutil.copy(file, tmp_path)
    config = {"vocab_size": 11, "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {
        "intermediate_size": 6,
        "max_position_embeddings": 5,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    }
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    found = stored.of_hf(tmp_path)
    assert found.hf is not None and found.hf.kind == "tensorflow"
    assert not found.missing and not found.unexpected and list(found.heads) == ["tokens", "pooler", "nsp"]


def test_a_damaged_checkpoint_is_refused(tmp_path):
    for file in PREFIX.parent.iterdir():
        shutil.copy(file, tmp_path)
    prefix = tmp_path / PREFIX.name
    data = tmp_path / f"{PREFIX.name}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"is not in bert_model\.ckpt\.data-00000-of-00001: cut"):
        tensorflow_file.variables(prefix)
    index = tmp_path / f"{PREFIX.name}.index"
    whole = index.read_bytes()
    for broken, message in (
        (whole[:-9], "does not end as a table"),
        (b"", "does not end"),
        (b"\xff" * 60 + whole[-48:], ""),
    ):
        index.write_bytes(broken)
        with pytest.raises(UserError, match=f"not a readable TensorFlow checkpoint.*{message}"):
            tensorflow_file.variables(prefix)
    with pytest.raises(UserError, match=r"nothing\.ckpt\.index: cannot be read: No such file"):
        tensorflow_file.variables(tmp_path / "nothing.ckpt")


def test_data_that_a_link_leads_to_outside_of_the_folder_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    for file in PREFIX.parent.iterdir():
        shutil.copy(file, tmp_path / "in")
    data = tmp_path / "in" / f"{PREFIX.name}.data-00000-of-00001"
    data.rename(tmp_path / "outside")
    data.symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="outside of the folder: refused"):
        tensorflow_file.variables(tmp_path / "in" / PREFIX.name)


def _table(handles: int) -> bytes:
    """An index whose handles all lead to one block of one entry."""
    block = lambda entries: (
        b"".join(b"\0" + bytes([len(k), len(v)]) + k + v for k, v in entries) + b"\0" * 4 + b"\1\0\0\0"
    )
    data = block([(b"", b"")])
    handle = b"\0" + bytes([len(data)])
    index = block([(b"%05d" % i, handle) for i in range(handles)])
    size = bytes([len(index) & 0x7F | 0x80, len(index) >> 7])
    foot = (b"\0\0" + bytes([len(data) + 5]) + size).ljust(40, b"\0")
    return data + b"\0" * 5 + index + b"\0" * 5 + foot + (0xDB4775248B80FB57).to_bytes(8, "little")


def test_an_index_that_names_one_block_again_and_again_is_refused(tmp_path):
    index = tmp_path / "a.ckpt.index"
    index.write_bytes(_table(1))
    assert tensorflow_file.variables(tmp_path / "a.ckpt") == {}
    index.write_bytes(_table(2))
    with pytest.raises(UserError, match="its blocks overlap"):
        tensorflow_file.variables(tmp_path / "a.ckpt")
