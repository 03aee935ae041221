"""Runs the model in this folder. Needs jax, and flatbuffers to read its programs; nothing else.

    python run.py                                    what there is
    python run.py embeddings '[[101, 7592, 102]]'    one function on rows of token ids; JSON
    python run.py generate '[[1, 2, 3]]' --max-new-tokens=20   greedy continuations

    import run
    model = run.Model("FOLDER")                      # platform="cpu", "tpu" or "cuda"; None: that of jax
    model("embeddings", **model.rows([[101, 7592, 102]]))["embeddings"]
    run.generate(model, [[1, 2, 3]], most=20)

Ids are those of the tokenizer in tokenizer/, with the special tokens that manifest.json names under `tokens`.
"""

import argparse
import hashlib
import json
import mmap
import pathlib
import sys

import jax
import numpy as np
from jax import export

FORMAT, VERSION = "jaxlm-stablehlo", 1
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
# As safetensors names them; the last are numpy's by ml_dtypes, which comes with jax.
_DTYPES = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
}
_DTYPES |= {"U32": "u4", "U16": "u2", "BOOL": "?", "BF16": "bfloat16"}
_DTYPES |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_FEWEST = 16  # tokens that rows are padded to at least; then powers of two, so that few shapes are compiled
_FIX = "Copy the folder again, or make it anew: jaxlm export --format=stablehlo."


class Refused(ValueError):
    """The folder, or what was asked of it, is not right: what, and the fix."""


def digest(manifest):
    """SHA-256 of what a manifest says, besides this number itself."""
    said = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def file_digest(path):
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder):
    """The manifest, when all files are what it says and this jax reads them."""
    folder = pathlib.Path(folder)
    where = folder / MANIFEST
    try:
        manifest = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Refused(f"{where}: not there, so {folder} is no folder of {FORMAT}. Name one.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"{where}: damaged ({error}). {_FIX}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise Refused(
            f"{where}: not a manifest of {FORMAT}. Name a folder that jaxlm export --format=stablehlo made."
        )
    if manifest.get("version") != VERSION:
        raise Refused(
            f"{where}: version {manifest.get('version')}, and this program reads version {VERSION}. Fix: the run.py "
            "that lies in the same folder, or export again with the jaxlm of this version."
        )
    if manifest.get("sha256") != digest(manifest):
        raise Refused(f"{where}: damaged, it is not what was written. {_FIX}")
    for name, said in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise Refused(f"{path}: missing. {_FIX}")
        if path.stat().st_size != said["bytes"] or file_digest(path) != said["sha256"]:
            raise Refused(f"{path}: damaged, its SHA-256 is not that of {MANIFEST}. {_FIX}")
    return manifest


def check_jax(manifest):
    """Refuses a calling convention that this jax does not know."""
    found, made = manifest["calling_convention"], manifest["made_with"]["jax"]
    lowest = export.minimum_supported_calling_convention_version
    highest = export.maximum_supported_calling_convention_version
    if not lowest <= found <= highest:
        which = (
            f"jax {made} or newer" if found > highest else f"an older jax, such as {made}, or export again"
        )
        raise Refused(
            f"the programs have calling convention {found} (jax {made}); jax {jax.__version__} reads {lowest} to "
            f"{highest}. Fix: {which}."
        )


def safetensors(path):
    """{name: array} over the file itself."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, said in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = said["data_offsets"]
            dtype = jax.numpy.dtype(_DTYPES[said["dtype"]])
            values = np.frombuffer(data, dtype, (last - first) // dtype.itemsize, start + first)
            found[name] = values.reshape(said["shape"])
    return found


class Model:
    """The functions of the folder, with their weights on the default device of one platform."""

    def __init__(self, folder, platform=None):
        self.folder, self.manifest = pathlib.Path(folder), read(folder)
        check_jax(self.manifest)
        backend = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
        self.platform = platform or backend
        if self.platform not in self.manifest["platforms"]:
            there = ", ".join(self.manifest["platforms"])
            raise Refused(
                f"platform {self.platform}: there are programs for {there}. Fix: platform=, or JAX_PLATFORMS."
            )
        device = jax.devices(self.platform)[0]
        arrays = safetensors(self.folder / WEIGHTS)
        # In the order of the manifest: that in which the programs of a platform take them.
        self.weights = [
            jax.device_put(arrays[name] if layer is None else arrays[name][layer], device)
            for name, layer in self.manifest["weights"][self.platform]
        ]
        self._programs = {}

    def __call__(self, name, **given):
        """Outputs of a function by name. Inputs that come back as outputs (a cache) are given up: take what came."""
        said = self._function(name)
        given = {one["name"]: self._input(name, one, given, len(given)) for one in said["inputs"]}
        self._check_sizes(name, said, given)
        back = {one["name"] for one in said["outputs"]}
        kept = {key: value for key, value in given.items() if key in back}
        return self._program(name)(self.weights, {key: given[key] for key in given if key not in kept}, kept)

    def _function(self, name):
        functions = self.manifest["functions"]
        if name not in functions:
            raise Refused(f"no function {name!r}: there are {', '.join(functions)}.")
        return functions[name]

    def _input(self, name, one, given, number):
        if set(given) != {other["name"] for other in self._function(name)["inputs"]}:
            wanted = [other["name"] for other in self._function(name)["inputs"]]
            raise Refused(
                f"{name} takes {', '.join(wanted) or 'nothing'}, and got {', '.join(given) or 'nothing'}."
            )
        value = given[one["name"]]
        if not isinstance(value, jax.Array) or value.dtype != one["dtype"]:
            value = np.asarray(value, jax.numpy.dtype(one["dtype"]))
        return value

    def _check_sizes(self, name, said, given):
        sizes, limits = {}, self.manifest["limits"]
        for one in said["inputs"]:
            shape = given[one["name"]].shape
            fits = len(shape) == len(one["shape"]) and all(
                sizes.setdefault(dim, size) == size if isinstance(dim, str) else dim == size
                for dim, size in zip(one["shape"], shape, strict=True)
            )
            if not fits:
                raise Refused(
                    f"{name}: {one['name']} has the shape {shape}, and {one['shape']} is wanted; sizes {sizes}."
                )
        for dim, size in sizes.items():
            if not 1 <= size <= limits.get(dim, size):
                raise Refused(f"{name}: {dim}={size}, and 1 to {limits.get(dim, 'any')} is allowed.")
        if sizes.get("T", 0) > sizes.get("S", sizes.get("T", 0)):
            raise Refused(f"{name}: T={sizes['T']} tokens, and the cache has {sizes['S']} slots.")

    def _program(self, name):
        if name not in self._programs:
            path = self.folder / self._function(name)["programs"][self.platform]
            try:
                made = export.deserialize(bytearray(path.read_bytes()))
            except ImportError as error:
                raise Refused(f"{path}: {error}. Fix: pip install flatbuffers.") from error
            except Exception as error:  # whatever a parser raises
                with_jax = self.manifest["made_with"]["jax"]
                raise Refused(
                    f"{path}: jax {jax.__version__} cannot read it ({str(error)[:200]}); it is of jax {with_jax}. "
                    "StableHLO is read for six months. Fix: that jax, or export again."
                ) from error
            call = lambda weights, given, kept: made.call(weights, {**given, **kept})
            self._programs[name] = jax.jit(call, donate_argnums=2)
        return self._programs[name]

    def rows(self, ids, pairs=False):
        """tokens, mask and types of rows of ids, padded behind. `pairs`: types tell the texts of a row apart."""
        width = self._width(max(map(len, ids), default=0), "T")
        tokens = np.full((len(ids), width), self.manifest["tokens"]["pad"], np.int32)
        mask = np.zeros_like(tokens)
        for i, row in enumerate(ids):
            tokens[i, : len(row)], mask[i, : len(row)] = row, 1
        types = np.zeros_like(tokens)
        if pairs:
            ends = (tokens == self.manifest["tokens"]["after"][0]).astype(np.int32)
            types = np.minimum(np.cumsum(ends, axis=1) - ends, 1) * mask
        return {"tokens": tokens, "mask": mask, "types": types.astype(np.int32)}

    def _width(self, longest, dim):
        limit = self.manifest["limits"].get(dim, sys.maxsize)
        if not 1 <= longest <= limit:
            raise Refused(f"a row of {longest} tokens: 1 to {limit} are allowed.")
        return min(max(_FEWEST, 1 << (longest - 1).bit_length()), limit)

    def cache(self, rows, slots, memory=None):
        """An empty cache, with what `encode` returned in it."""
        sizes = {"B": rows, "S": slots}
        wanted = [one for one in self._function("decode")["inputs"] if one["name"].startswith("cache/")]
        empty = {}
        for one in wanted:
            if one["name"] not in (memory or {}):
                empty[one["name"]] = np.zeros([sizes.get(dim, dim) for dim in one["shape"]], one["dtype"])
        return empty | dict(memory or {})


def generate(model, prompts, most):
    """The likeliest token again and again, at most so many; a list of ids for every prompt, a stop token included.

    Prompts are ids as the model reads them; of an encoder-decoder they are the sources.
    """
    marks, memory, beginnings = model.manifest["tokens"], None, prompts
    if "encode" in model.manifest["functions"]:
        source = model.rows(prompts)
        memory = dict(model("encode", tokens=source["tokens"], mask=source["mask"]))
        beginnings = [marks["start"]] * len(prompts)
    lengths = np.array([len(row) for row in beginnings], np.int32)
    width = int(lengths.max())
    tokens = np.zeros((len(beginnings), width), np.int32)
    for i, row in enumerate(beginnings):
        tokens[i, width - len(row) :] = row  # prompts end where the answers begin
    most = min(most, model.manifest["limits"].get("S", sys.maxsize) - width + 1)
    cache = model.cache(len(tokens), width + most - 1, memory)
    out = dict(model("prefill", tokens=tokens, lengths=lengths, **cache))
    written = [[] for _ in prompts]
    for step in range(most):
        token = np.asarray(out.pop("logits")).argmax(axis=-1).astype(np.int32)
        for row, one in zip(written, token, strict=True):
            if not row or row[-1] not in marks["stops"]:
                row.append(int(one))
        if step + 1 == most or all(row[-1] in marks["stops"] for row in written):
            return written
        out = dict(model("decode", token=token, **out))
    return written


def main(words):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("function", nargs="?", help="its name, or generate")
    parser.add_argument("ids", nargs="?", help="rows of token ids as JSON; - reads them from standard input")
    parser.add_argument("--max-new-tokens", type=int, default=20, help="tokens that generate writes")
    parser.add_argument(
        "--folder", default=str(pathlib.Path(__file__).parent), help="default: that of this file"
    )
    options = parser.parse_args(words)
    try:
        model = Model(options.folder)
        functions = model.manifest["functions"]
        if options.function is None:
            print("\n".join(f"{name}: {said['does']}" for name, said in functions.items()))
            return 0
        ids = json.loads(sys.stdin.read() if options.ids in (None, "-") else options.ids)
        if options.function == "generate":
            print(json.dumps(generate(model, ids, options.max_new_tokens)))
            return 0
        rows = model.rows(ids, pairs=functions.get(options.function, {}).get("pairs", False))
        out = model(options.function, **rows)
        print(json.dumps({name: np.asarray(value, np.float64).tolist() for name, value in out.items()}))
        return 0
    except Refused as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 78


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
