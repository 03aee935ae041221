"""The process that has TensorFlow. In: `save FOLDER DIR` or `replay DIR GIVEN MADE`. Out: a SavedModel, or outputs.

Run by its path, so that nothing of jaxlm, and no jax, is imported beside TensorFlow. FOLDER is what savedmodel.py
prepared; GIVEN and MADE are files of cases.py.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf


def save(folder, target):
    """A SavedModel with a signature for every function."""
    folder = pathlib.Path(folder)
    job = json.loads((folder / "job.json").read_text())
    module: Any = tf.Module()
    module.weights = [
        tf.Variable(np.load(folder / f"{number}.npy"), trainable=False, name=f"weight{number}")
        for number in range(job["weights"])
    ]
    signatures = {
        name: _function(module, said, (folder / name).read_bytes()) for name, said in job["functions"].items()
    }
    tf.saved_model.save(module, target, signatures=signatures)


def _function(module, said, program):
    """Takes and returns tensors by name; `/` in a name is `_`, which TensorFlow allows."""
    inputs = {
        _name(one["name"]): tf.TensorSpec(_shape(one), one["dtype"], name=_name(one["name"]))
        for one in said["inputs"]
    }

    def call(**given):
        # As jax takes them: weights, then inputs by name in order.
        values = [tf.convert_to_tensor(weight) for weight in module.weights]
        values += [given[_name(name)] for name in sorted(one["name"] for one in said["inputs"])]
        outputs = sorted(said["outputs"], key=lambda one: one["name"])
        found = _called(values, outputs, program, said["version"])
        return {_name(one["name"]): value for one, value in zip(outputs, found, strict=True)}

    return tf.function(call, autograph=False).get_concrete_function(**inputs)


def _called(values, outputs, program, version):
    """XlaCallModule has no function of its own in TensorFlow's interface; as a node of a graph it has one."""
    graph = tf.compat.v1.GraphDef()
    for number, value in enumerate(values):
        node = graph.node.add(name=f"input{number}", op="Placeholder")
        node.attr["dtype"].type = value.dtype.as_datatype_enum
    node = graph.node.add(name="call", op="XlaCallModule")
    node.input.extend(f"input{number}" for number in range(len(values)))
    node.attr["version"].i = version
    node.attr["module"].s = program
    node.attr["platforms"].list.s.append(b"CPU")
    node.attr["Tin"].list.type.extend(value.dtype.as_datatype_enum for value in values)
    node.attr["Tout"].list.type.extend(tf.as_dtype(one["dtype"]).as_datatype_enum for one in outputs)
    node.attr["Sout"].list.shape.extend(tf.TensorShape(_shape(one)).as_proto() for one in outputs)
    names = {f"input{number}": value for number, value in enumerate(values)}
    return tf.graph_util.import_graph_def(graph, names, [f"call:{n}" for n in range(len(outputs))], name="")


def _shape(one):
    return [dim if isinstance(dim, int) else None for dim in one["shape"]]


def _name(name):
    return name.replace("/", "_")


def replay(target, given, made):
    """Every call of the file, in order; an input may be the output of an earlier call."""
    signatures = tf.saved_model.load(target).signatures
    functions = json.loads(pathlib.Path(target, "jaxlm.json").read_text())["functions"]
    with np.load(given) as arrays:
        calls = json.loads(arrays["calls"].tobytes())
        inputs = {name: arrays[name] for name in arrays.files}
    found, named = [], {}
    for number, call in enumerate(calls):
        said = {name: tf.constant(inputs[f"{number}:{name}"]) for name in call["given"]}
        said |= {name: found[at][name] for name, at in call["kept"].items()}
        out = signatures[call["function"]](**{_name(name): value for name, value in said.items()})
        found.append({one["name"]: out[_name(one["name"])] for one in functions[call["function"]]["outputs"]})
        named |= {f"{number}:{name}": value.numpy() for name, value in found[-1].items()}
    np.savez(made, **named)


if __name__ == "__main__":
    {"save": save, "replay": replay}[sys.argv[1]](*sys.argv[2:])
