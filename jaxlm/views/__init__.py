"""What is trained is not what the model reads. In: parameters. Out: what is trained, what is frozen; and both merged.

A run's `view` is a tuple of views, each acting on what the one before it leaves to be trained. No view: everything is
trained. Guaranteed: what a view freezes gets no gradient, no optimizer state and no place in a checkpoint.
"""

from jaxlm.views.adalora import AdaLoRA
from jaxlm.views.adapter import Adapter, houlsby, pfeiffer
from jaxlm.views.freeze import BitFit, Freeze
from jaxlm.views.ia3 import IA3
from jaxlm.views.keep_start import KeepStart
from jaxlm.views.keep_zeros import KeepZeros
from jaxlm.views.lora import DoRA, LoRA, rslora
from jaxlm.views.movement import Movement
from jaxlm.views.prompt import Prefix, Prompt
from jaxlm.views.view import Chain, View

__all__ = [
    "IA3",
    "AdaLoRA",
    "Adapter",
    "BitFit",
    "Chain",
    "DoRA",
    "Freeze",
    "KeepStart",
    "KeepZeros",
    "LoRA",
    "Movement",
    "Prefix",
    "Prompt",
    "View",
    "houlsby",
    "pfeiffer",
    "rslora",
]
