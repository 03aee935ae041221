"""Learnt tokens in front of every text (Lester et al., 2104.08691). In: a table of tokens, and theirs. Out: a `Value`.

They are rows behind those of the table, so that a model embeds them like tokens, positions and all. `Prompted` stands
around a model and puts them in front: of every item of a packed row, of an encoder-decoder's source, and of what is
generated from. Guaranteed: an item sees its own, at the positions before it; features come back without them.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models.beside import Beside


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Longer(Beside):
    """A table with more rows, which nothing decodes to."""

    merges: ClassVar[bool] = False

    rows_PD: jax.Array

    @property
    def T(self) -> Any:
        """Of the table alone."""
        return self.base.T

    def rows(self, ids: jax.Array) -> jax.Array:
        """Of both."""
        size = self.base.shape[0]
        own = self.rows_PD[jnp.clip(ids - size, 0)]
        return jnp.where((ids < size)[..., None], self.base[jnp.minimum(ids, size - 1)], own)

    def full(self) -> jax.Array:
        """UserError: it is no table of the model's size."""
        raise UserError(
            "A learnt prompt stands in front of every text, so no weight of the model can hold it and it cannot be "
            "merged. Fix: use the run itself (--run=RUN), or train LoRA instead, which can."
        )

    def around(self, module: Any) -> Any:
        """What puts the prompt in front."""
        config, number = module.config, len(self.rows_PD)
        if any(getattr(config, "windows", ())) or hasattr(config, "window"):
            raise UserError(
                f"A prompt stands in front of its row, and tokens of {type(config).__name__} see no farther than a "
                "window. Fix: LoRA, or a prefix (jaxlm.views.Prefix), which every token sees."
            )
        return Prompted(module, number, self.base.shape[0])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompted:
    """A module with `number` tokens in front of every text, whose ids begin with `first`; all else is the module's."""

    module: Any
    number: int = dataclasses.field(metadata={"static": True})
    first: int = dataclasses.field(metadata={"static": True})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "module":
            raise AttributeError(name)
        return getattr(self.module, name)

    def embed(self, batch: Batch, key: jax.Array | None = None) -> Any:
        """What goes into the blocks, without the prompt."""
        wide, ahead = self._wide(batch)
        made = self.module.embed(wide, key)
        return (made[0][:, ahead:], made[1]) if isinstance(made, tuple) else made[:, ahead:]

    def encode(
        self, batch: Batch, key: jax.Array | None = None, x_BTD: Any = None, at_BM: jax.Array | None = None
    ) -> Any:
        """Features of the row, which has seen its prompts."""
        wide, ahead = self._wide(batch)
        if x_BTD is not None:
            made = self.module.embed(wide, key)
            behind = lambda made, x_BTD: jnp.concatenate([made[:, :ahead], x_BTD], axis=1)
            pair = isinstance(made, tuple)
            x_BTD = (behind(made[0], x_BTD[0]), x_BTD[1]) if pair else behind(made, x_BTD)
        source = batch.source_tokens_BS is not None
        at_BM = at_BM if at_BM is None or source else at_BM + ahead
        encoded = self.module.encode(wide, key, x_BTD, at_BM)
        if source or at_BM is not None:
            return encoded
        return dataclasses.replace(encoded, x_BTD=encoded.x_BTD[:, ahead:])

    def start_cache(self, batch: Batch, slots: int) -> Any:
        """A cache that holds the prompt: of an encoder-decoder in the source, else in its first slots."""
        if batch.source_tokens_BS is not None:
            return self.module.start_cache(self._wide(batch)[0], slots)
        cache = self.module.start_cache(batch, slots + self.number)
        ids_P = jnp.arange(self.number, dtype=jnp.int32)
        places_BP = jnp.broadcast_to(ids_P, (len(batch.tokens_BT), self.number))
        ones_BP = jnp.ones_like(places_BP)
        return self.module.extend(places_BP + self.first, ones_BP, places_BP, cache)[1]

    def extend(
        self, tokens_BT: jax.Array, segments_BT: jax.Array, positions_BT: jax.Array, cache: Any
    ) -> tuple[jax.Array, Any]:
        """The next tokens, behind the prompt."""
        shift = 0 if cache.memory is not None else self.number
        return self.module.extend(tokens_BT, segments_BT, positions_BT + shift, cache)

    def _wide(self, batch: Batch) -> tuple[Batch, int]:
        """The batch with the prompts of all its items in front, and how many tokens they are."""
        number, most = self.number, batch.most_segments or 1
        source = batch.source_tokens_BS is not None
        self._check(batch.source_tokens_BS if source else batch.tokens_BT, most)
        ids = jnp.tile(jnp.arange(number, dtype=jnp.int32), most)
        items = jnp.repeat(jnp.arange(1, most + 1, dtype=jnp.int32), number)
        ahead = lambda own, x: jnp.concatenate([jnp.broadcast_to(own, (len(x), len(ids))), x], axis=1)
        names = {"tokens": ids + self.first, "segments": items, "positions": ids}
        fields: dict[str, Any] = {}
        for name, own in names.items():
            field = f"source_{name}_BS" if source else f"{name}_BT"
            shift = number if name == "positions" else 0
            fields[field] = ahead(own, getattr(batch, field) + shift)
        if not source:
            for field in ("types_BT", "prefix_BT"):
                if (x := getattr(batch, field)) is not None:
                    fields[field] = ahead(jnp.zeros_like(ids), x)
        return dataclasses.replace(batch, **fields, most_segments=None), number * most

    def _check(self, tokens: Any, most: int) -> None:
        config = self.module.config
        longest, length = getattr(config, "max_positions", None), tokens.shape[1]
        if longest is not None and length + self.number > longest:
            raise UserError(
                f"A prompt of {self.number} tokens and a row of {length} are more than the {longest} positions of the "
                f"model. Fix: rows of at most {longest - self.number} tokens (--config.stages[0].length)."
            )
        if hasattr(config, "buckets") and most > 1:
            raise UserError(
                f"{type(config).__name__} knows positions by distance in the row, so that a prompt in front of several "
                "items is nearer to some than to others. Fix: one item a row, or another view, such as LoRA."
            )
