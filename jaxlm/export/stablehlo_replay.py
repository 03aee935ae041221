"""The process of a check: calls of a folder's functions, with jax and numpy alone. In: FOLDER GIVEN MADE. Out: MADE.

Run by its path, so that nothing of jaxlm is imported but the folder's own run.py. GIVEN and MADE are files of cases.py.
"""

import importlib.util
import json
import pathlib
import sys

import numpy as np


def main(folder, given, made):
    """Every call of the file, in order; an input may be the output of an earlier call."""
    spec = importlib.util.spec_from_file_location("run", pathlib.Path(folder, "run.py"))
    assert spec is not None and spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    with np.load(given) as arrays:
        calls = json.loads(arrays["calls"].tobytes())
        inputs = {name: arrays[name] for name in arrays.files}
    try:
        model, found = run.Model(folder), []
        for number, call in enumerate(calls):
            said = {name: inputs[f"{number}:{name}"] for name in call["given"]}
            said |= {name: found[at][name] for name, at in call["kept"].items()}
            out = model(call["function"], **said)
            found.append({name: np.array(value) for name, value in out.items()})
    except run.Refused as error:
        print(error, file=sys.stderr)
        return 78
    foreign = {"jaxlm", "flax", "torch", "orbax"} & set(sys.modules)
    if foreign:
        print(f"run.py imported {', '.join(sorted(foreign))}", file=sys.stderr)
        return 1
    named = {f"{number}:{name}": value for number, out in enumerate(found) for name, value in out.items()}
    np.savez(made, **named)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
