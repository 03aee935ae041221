"""A tiny decoder with two adapters, as transformers and peft save them."""

import peft
import torch
import transformers

import jaxlm
from tests.exchange import transformers_folders


def decoders(root):
    """(the base, {adapter: folder}, {name: how its text goes on after "the cat sat"})."""
    where = transformers_folders.save("gpt2", root)
    parts = {}
    for number, name in enumerate(("one", "two")):
        torch.manual_seed(number)
        base = transformers.AutoModelForCausalLM.from_pretrained(where)
        made = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
        for p in made.parameters():
            if p.requires_grad:
                p.data = p.data + torch.randn_like(p)
        made.save_pretrained(parts.setdefault(name, root / f"adapter_{name}"))
    parts = {name: str(folder) for name, folder in parts.items()}
    model = jaxlm.load(f"hf:{where}", adapters=parts)
    names = [None, *parts]
    said = model.generate(["the cat sat"] * 3, max_new_tokens=8, adapters=names)
    return f"hf:{where}", parts, {name or "base": one.text for name, one in zip(names, said, strict=True)}
