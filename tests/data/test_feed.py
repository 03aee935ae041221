import dataclasses
import threading

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlm.batch import Batch
from jaxlm.data.feed import Feed, first_holders, host_rows
from jaxlm.objectives.targets import TokenTargets

B, T, M = 8, 6, 5


def batch(step, rows=range(B)):
    rows = np.asarray(rows)
    tokens = (1000 * step + 10 * rows[:, None] + np.arange(T)).astype(np.int32)
    weights = (step + rows[:, None] * np.ones(M)).astype(np.float32)
    targets = TokenTargets(ids_BM=tokens[:, :M] + 2, weights_BM=weights)
    return Batch(
        tokens_BT=tokens, segments_BT=tokens + 1, positions_BT=tokens, types_BT=tokens, targets=targets
    )


def mesh(*shape):
    names = ("data", "fsdp", "context")[: len(shape)]
    devices = np.array(jax.devices()[: int(np.prod(shape))]).reshape(shape)
    return jax.sharding.Mesh(devices, names, axis_types=(AxisType.Auto,) * len(shape))


class Source:
    def __init__(self, count=None, fail_at=None):
        self.count, self.fail_at, self.step, self.closed = count, fail_at, 0, 0

    def __next__(self):
        if self.step == self.count:
            raise StopIteration
        if self.step == self.fail_at:
            raise ValueError("a broken record")
        self.step += 1
        return batch(self.step - 1)

    def close(self):
        self.closed += 1


SHARDINGS = [
    NamedSharding(mesh(1, 1), P(("data", "fsdp"))),
    NamedSharding(mesh(8, 1), P(("data", "fsdp"))),
    NamedSharding(mesh(2, 2, 2), P(("data", "fsdp"))),
    NamedSharding(mesh(2, 4), P(None)),
    NamedSharding(mesh(2, 4), P("data")),
]


@pytest.mark.parametrize("sharding", SHARDINGS, ids=lambda s: f"{s.mesh.shape_tuple}{s.spec}")
def test_global_batches_equal_the_host_batches_on_any_mesh(sharding):
    with Feed(Source(count=5), sharding, batch_size=B, prefetch=2) as feed:
        made = list(feed)
        assert len(made) == 5 and feed.wait_s >= 0.0
    for step, (device, host) in enumerate(zip(made, map(batch, range(5)), strict=True)):
        assert jax.tree.structure(device) == jax.tree.structure(host)
        for got, value in zip(jax.tree.leaves(device), jax.tree.leaves(host), strict=True):
            assert got.sharding.is_equivalent_to(sharding, 2), step
            np.testing.assert_array_equal(got, value)
            assert got.dtype == value.dtype


def test_fields_and_groups_of_fields_may_be_sharded_each_in_its_own_way():
    grid = mesh(4, 1, 2)
    rows, both = NamedSharding(grid, P(("data", "fsdp"))), NamedSharding(grid, P(("data", "fsdp"), "context"))
    by_field = TokenTargets(ids_BM=rows, weights_BM=rows)
    for targets in (rows, by_field):  # for the whole group, or for every field of it
        shardings = Batch(tokens_BT=both, segments_BT=both, positions_BT=both, types_BT=both, targets=targets)
        with Feed(Source(), shardings, batch_size=B) as feed:
            got = next(feed)
        assert got.tokens_BT.sharding.shard_shape((B, T)) == (2, 3)
        for found in (got.targets.ids_BM, got.targets.weights_BM):
            assert found.sharding.shard_shape((B, M)) == (2, M)
        jax.tree.map(np.testing.assert_array_equal, got, batch(0))


def test_rows_of_a_host_follow_from_the_sharding_not_from_its_number():
    devices = mesh(2, 2, 2).devices
    sharding = NamedSharding(mesh(2, 2, 2), P(("data", "fsdp")))
    # Two hosts that split the last axis hold all rows each; "host number * B / hosts" would be wrong.
    for host in (0, 1):
        assert host_rows(sharding, B, set(devices[:, :, host].flat)).tolist() == list(range(8))
        assert (
            host_rows(sharding, B, set(devices[:, host].flat)).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]][host]
        )
        assert host_rows(sharding, B, set(devices[host].flat)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]][host]
    assert host_rows(sharding, B).tolist() == list(range(8))


@pytest.mark.parametrize("spec", [P(("data", "fsdp")), P("data"), P(None)], ids=str)
def test_every_row_is_counted_by_one_host_however_the_mesh_lies_over_hosts(spec):
    devices, sharding = mesh(2, 2, 2).devices, NamedSharding(mesh(2, 2, 2), spec)
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        for hosts in (1, 2, 4, 8):
            laid = devices.transpose(axes).reshape(hosts, -1)
            process = {device: host for host, mine in enumerate(laid) for device in mine}
            first_B = first_holders(sharding, B, process.__getitem__)
            for host, mine in enumerate(laid):
                held = host_rows(sharding, B, set(mine))
                assert set(np.flatnonzero(first_B == host)) <= set(held)
                assert (first_B[held] <= host).all()


def test_digests_stay_on_the_host_and_are_added_up():
    digests_B = np.random.default_rng(0).integers(0, 256, (B, 32), np.uint8)
    source = iter([dataclasses.replace(batch(0), digests_B=digests_B), batch(1)])
    with Feed(source, SHARDINGS[1], batch_size=B) as feed:
        assert next(feed).digests_B is None
        assert feed.read == sum(int.from_bytes(bytes(row), "little") for row in digests_B) % 2**256
        next(feed)
        assert feed.read == 0


def test_an_error_of_the_source_reaches_the_caller_after_the_good_batches():
    feed = Feed(Source(fail_at=2), SHARDINGS[1], batch_size=B, prefetch=4)
    assert [int(next(feed).tokens_BT[0, 0]) for _ in range(2)] == [0, 1000]
    for _ in range(2):
        with pytest.raises(ValueError, match="a broken record"):
            next(feed)
    feed.close()


def test_a_batch_of_the_wrong_number_of_rows_is_an_error_not_a_hang():
    wrong = pytest.raises(ValueError, match="has 4 rows, its devices hold 8")
    with Feed(iter([batch(0, rows=range(4))]), SHARDINGS[1], batch_size=B) as feed, wrong:
        next(feed)


def test_closing_ends_the_thread_and_the_source_even_with_full_buffers():
    before = threading.active_count()
    source = Source()
    feed = Feed(source, SHARDINGS[0], batch_size=B, prefetch=1)
    next(feed)
    feed.close()
    feed.close()
    assert threading.active_count() == before and source.closed >= 1
    with pytest.raises(StopIteration):
        next(feed)


def test_no_more_than_the_prefetched_batches_are_read_ahead():
    source = Source()
    with Feed(source, SHARDINGS[0], batch_size=B, prefetch=3) as feed:
        for _ in range(4):
            next(feed)
        assert source.step <= 4 + 3 + 1  # taken, in the queue, in the thread's hand
