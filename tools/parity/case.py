"""One model in two libraries. In: a config. Out: transformers' model with random weights, and ours with the same."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

from jaxlm.convert import families
from jaxlm.models.build import build

# Unoptimised code compiles three times faster; the programs here run for milliseconds.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A row of the table."""

    name: str
    config: Any  # of ours; odd sizes, no dropout
    kind: Any  # of kinds.py
    # What transformers' config needs besides ours (ids of special tokens within a small vocabulary).
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Regular expression of parameters whose gradient is zero but for rounding: compared absolutely.
    rounding: str = r"(?!)"
    # Parameters that a new model of transformers ties to others, and that its published files hold apart.
    untied: tuple[str, ...] = ()
    note: str = ""  # exceptions, for the table

    @property
    def family(self) -> str:
        """File name of the family."""
        return type(self.config).__module__.rsplit(".", 1)[1]

    def reference(self, seed: int = 0) -> Any:
        """transformers' model with weights far from their initial ones: zero biases and unit scales hide mistakes."""
        torch.manual_seed(seed)
        contents = self.contents()
        architecture = contents["architectures"][0]
        kind = transformers.CONFIG_MAPPING[contents["model_type"]]
        hf = kind(**{k: v for k, v in contents.items() if k != "model_type"})
        hf._attn_implementation = "eager"
        model = getattr(transformers, architecture)(hf).train()
        for name in self.untied:
            owner, _, last = name.rpartition(".")
            setattr(
                model.get_submodule(owner),
                last,
                torch.nn.Parameter(model.get_parameter(name).detach().clone()),
            )
            model.all_tied_weights_keys.pop(name)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:  # the others are constants, such as sinusoids
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    def contents(self) -> dict[str, Any]:
        """Of config.json."""
        return families.to_hf_config(self.config, self.kind.heads) | self.extra

    def model(self, **changes: Any) -> Any:
        """Ours; `changes` are operational fields of its config."""
        return build(
            dataclasses.replace(self.config, **changes), families.named(self.config, self.kind.heads)
        )

    def params(self, hf: Any) -> Any:
        """Our parameters with the reference's weights."""
        return families.import_params(tensors(hf), self.config)


def tensors(hf: Any) -> dict[str, np.ndarray]:
    """The state dict as arrays."""
    return {name: value.detach().numpy().copy() for name, value in _as_stored(hf, hf.state_dict()).items()}


def parameters(hf: Any) -> dict[str, torch.Tensor]:
    """Copies of the parameters with their gradients, under the names of its files."""
    named = dict(hf.named_parameters())
    grads = _as_stored(hf, {name: one.grad for name, one in named.items() if one.grad is not None})
    found = _as_stored(hf, {name: one.detach() for name, one in named.items()})
    for name, value in found.items():
        made = value.clone().requires_grad_(name not in named or named[name].requires_grad)
        made.grad = grads.get(name)
        found[name] = made
    return found


def _as_stored(hf: Any, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As transformers writes them: it fuses experts in memory."""
    return dict(revert_weight_conversion(hf, named))


def present(case: Case, named: dict[str, Any]) -> dict[str, Any]:
    """The weights among them, under the names of our tables."""
    family, fixed = families.of_config(case.config), families.constants(case.config)
    now = {
        family.current_name(name): value
        for name, value in named.items()
        if name not in fixed and getattr(value, "requires_grad", True)
    }
    # torch lists a tied weight once, under the name that its module comes to first; both names: they are two weights.
    first = {copy: original for copy, original in family.TIED.items() if original not in now}
    return {first.get(name, name): value for name, value in now.items()}
