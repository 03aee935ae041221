"""What a mistyped setting may have meant. In: the key as typed, the keys that there are. Out: the flag to type.

Words of other tools come first, by their meaning; then the closest known key; then the keys beside it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxlm.config import meanings, tree
from jaxlm.errors import did_you_mean

# How our keys end -> what others call them.
_WORDS = {
    "schedule.peak": "lr learning_rate max_lr peak_lr base_lr rate step_size",
    "schedule.end": "min_lr end_lr final_lr",
    "schedule.warmup": "warmup warmup_steps warmup_ratio num_warmup_steps warmup_iters",
    "optimizer.schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule",
    "optimizer": "optim optimiser",
    "weight_decay": "wd decay",
    "clip_norm": "grad_clip max_grad_norm clip gradient_clipping gradient_clip_val clip_grad_norm",
    "b1": "beta1 adam_beta1",
    "b2": "beta2 adam_beta2",
    "optimizer.epsilon": "eps adam_epsilon",
    "batch_size": "batch train_batch_size per_device_train_batch_size global_batch_size micro_batch_size bs",
    "accumulate": "gradient_accumulation_steps grad_accum grad_accumulation accumulation",
    "steps": "max_steps max_iters num_steps train_steps iterations",
    "stages[0].length": "seq_length seq_len sequence_length max_seq_length max_length block_size context_length "
    "ctx_len max_seq_len",
    "layers": "num_layers n_layer n_layers num_hidden_layers depth",
    "hidden": "hidden_size d_model n_embd width dim hidden_dim embed_dim",
    "heads": "num_heads n_head n_heads num_attention_heads",
    "mlp": "intermediate_size d_ff ffn_dim mlp_dim ffn_hidden_size",
    "vocab_size": "vocab vocabulary n_vocab",
    "dropout": "dropout_rate hidden_dropout_prob resid_pdrop dropout_prob p_dropout",
    "max_positions": "max_position_embeddings n_positions n_ctx",
    "remat": "gradient_checkpointing checkpointing activation_checkpointing",
    "objective.rate": "mlm_probability mask_prob mlm_prob masking_rate mask_rate",
    "masked_lm.rate": "mlm_probability mask_prob mlm_prob masking_rate mask_rate",
    "data.corpus": "dataset dataset_name data_path train_file train_data corpus_path text",
    "data.validation_share": "validation_split val_split eval_split",
    "data.workers": "num_workers dataloader_num_workers",
    "epochs": "num_epochs num_train_epochs n_epochs max_epochs",
    "evaluation.every_steps": "eval_steps eval_every eval_interval eval_freq",
    "evaluation.patience": "patience early_stopping early_stopping_patience",
    "checkpoint.every_steps": "save_steps save_every save_interval checkpoint_every",
    "keep.latest": "save_total_limit keep_last",
    "logging.every_steps": "logging_steps log_interval log_every log_steps",
    "logging.wandb": "wandb_project report_to wandb",
    "precision": "fp16 bf16 dtype mixed_precision amp",
    "seed": "random_seed",
    "init_from": "model_name model_name_or_path pretrained from_pretrained resume resume_from init checkpoint_path",
    "mesh.tensor": "tensor_parallel tp tensor_parallel_size",
    "mesh.fsdp": "fsdp zero",
    "mesh.expert": "expert_parallel ep expert_parallel_size expert_model_parallel_size",
    "mesh.data": "devices num_gpus n_gpu data_parallel",
}
_FLAGS = {"--workdir": "output_dir out_dir save_dir logdir run_dir folder", "--config": "recipe_name cfg"}


def hint(run: Any, key: str) -> str:
    """A sentence that names what `key` may have meant, as it is typed; '' where nothing comes to mind."""
    word = key.rpartition(".")[2].replace("-", "_").lower()
    known = keys(run)
    ends = [end for end, words in _WORDS.items() if word in words.split()]
    ends.append(word)  # the right name in the wrong place
    meant = [
        path for end in ends for path in ([end] if end in known else known) if f".{path}".endswith(f".{end}")
    ]
    flag = next((flag for flag, words in _FLAGS.items() if word in words.split()), "")
    if not meant:
        return f" Here it is {flag}." if flag else ""
    means = dict(tree_meanings(run))
    first, *more = dict.fromkeys(meant)
    also = f" (or {', '.join(f'--config.{path}' for path in more[:3])})" if more else ""
    meaning = f": {means[first]}" if means.get(first) else ""
    return f" Here it is --config.{first}{also}{meaning}."


def closest(run: Any, key: str) -> str:
    """The closest known key, then those that stand beside it."""
    known = keys(run)
    last = key.rpartition(".")[2]
    near = did_you_mean(key, known) or did_you_mean(last, [path.rpartition(".")[2] for path in known])
    return f"{near} {_siblings(key, known)}".rstrip()


def keys(run: Any) -> list[str]:
    """Every key of the run that --config. may name."""
    return [key for key, _, _ in tree.leaves(run)] + [key for key, _ in tree.nodes(run, "") if key]


def tree_meanings(run: Any) -> Iterable[tuple[str, str]]:
    """(key, meaning) of every field of the run."""
    for path, node in tree.nodes(run, ""):
        for name, meaning in meanings.of(type(node)).items():
            yield f"{path}.{name}".lstrip("."), meaning


def is_key(run: Any, key: str) -> bool:
    """Whether there is such a key, or such an element of one that is a tuple."""
    known = keys(run)
    element = re.fullmatch(r"(.*)\[\d+\]", key)
    return (
        key in known or bool(element and element[1] in known) or any(k.startswith(f"{key}[") for k in known)
    )


def _siblings(key: str, known: Sequence[str]) -> str:
    parent = key.rpartition(".")[0]
    inside = f"{parent}." if parent else ""
    names = sorted({k[len(inside) :].split(".")[0].split("[")[0] for k in known if k.startswith(inside)})
    if not names:
        return ""
    place = f"config.{parent}" if parent else "config"
    return f"Known in {place}: {', '.join(names)}."
