"""One host of several that share no disk: prepares a corpus, restores what the bucket has, saves more.

Run by test_own_disks.py: own_disks_program.py URL CORPUS LAST.
"""

import contextlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.checkpoint.policy import Keep
from jaxlm.config import remote
from jaxlm.config.folder import RunFolder
from jaxlm.data import tokenizer
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.shards import handed, prepare
from jaxlm.errors import EXIT_USER, UserError
from jaxlm.runtime import distributed
from jaxlm.training import mirrored

url, corpus, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
distributed.start()
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",), axis_types=(AxisType.Auto,))
where = {
    "parted": NamedSharding(mesh, PartitionSpec("d")),
    "everywhere": NamedSharding(mesh, PartitionSpec()),
    "number": NamedSharding(mesh, PartitionSpec()),
}
SHAPES = {"parted": (8, 300), "everywhere": (4, 50), "number": ()}
like = {name: jax.ShapeDtypeStruct(SHAPES[name], jnp.float32, sharding=where[name]) for name in SHAPES}


def value(name: str, step: int) -> np.ndarray:
    """Of an array at a step."""
    return np.random.default_rng([step, len(name)]).random(SHAPES[name], np.float32)


def state(step: int) -> dict[str, jax.Array]:
    """On the devices of all hosts."""
    part = lambda name: lambda index: value(name, step)[index]
    return {name: jax.make_array_from_callback(SHAPES[name], where[name], part(name)) for name in SHAPES}


def check(found: dict[str, jax.Array], step: int) -> None:
    """All bits that this host holds."""
    for name, array in found.items():
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), value(name, step)[shard.index])


try:
    with contextlib.ExitStack() as scope:
        following = mirrored.opened(scope, RunFolder(*remote.working(url, "--workdir")), changes=True)
        with distributed.ending_together():
            text = Corpus(source=corpus, validation_share=0.0, test_share=0.0)
            wanted = tokenizer.WordPiece(vocab_size=100, lowercase=True)
            with handed.all_or_none(following.hosts):
                made = prepare.prepare(text, wanted, sentences=False, processes=1, hosts=following.hosts)
        print(f"shards {made.fingerprint}")
        checkpoints = following.checkpoints(Keep(latest=2, best=0), say=print, check="sha256")
        scope.callback(checkpoints.close)
        start = checkpoints.newest_intact()
        if start is not None:
            check(checkpoints.restore(start, like)[0], start)
            print(f"restored {start}")
        for step in range((start or 0) + 1, last + 1):
            checkpoints.save(step, state(step), {}, final=step == last)
except UserError as error:
    print(f"error: {error}")
    sys.exit(EXIT_USER)
