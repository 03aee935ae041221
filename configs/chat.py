"""Fine-tuning on conversations (SFT): a decoder learns to answer, written as the tokenizer's chat template says.

Command     python -m jaxlm.train --config=configs/chat.py --config.init_from=hf:DIR --config.data.corpus=chats.jsonl
            init_from: a Hugging Face folder, a .gguf, a run (runs/quickstart_gpt) or a model folder; model, tokenizer
            and chat template come from it. Without it the decoder of quickstart_gpt.py begins from nothing
            The corpus: .jsonl with {"messages": [{"role", "content"}, ...]}, {"conversations": [{"from", "value"},
            ...]}, {"instruction", "input", "output"} or {"prompt", "completion"}; any of these as .csv or .parquet
            LoRA: "--config.view=(LoRA(rank=8, alpha=16.0, scaling='rank'),)" --config.optimizer.schedule.peak=5e-4
Parameters  1,334,016
Data        builtin:pychats: what a function of the standard library does, and its docstring
Expect      from nothing, on the built-in data: see docs/chat.md
Rows        of 128 tokens (512 where a model is given), up to 16 conversations each, which do not see each other
Length      3 epochs where a model is given (--config.epochs=N, or --config.steps=N), else 300 steps
Hardware    two CPU cores: about a minute
"""

import jaxlm
from jaxlm.checkpoint.policy import Keep
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.corpus.columns import Messages
from jaxlm.exchange import starting
from jaxlm.objectives.chat import Chat
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config(start: str = "") -> Run:
    """Every answer's tokens weigh the same; `start` says what it starts from."""
    large = bool(start) and not starting.is_tiny(start)
    run = jaxlm.load_recipe("quickstart_gpt")
    run.objective = Chat(column="messages", targets=0, items_per_row=16, z_loss=0.0, label_smoothing=0.0)
    run.optimizer = AdamW(
        schedule=WarmupLinear(peak=1e-4 if large else 3e-3, warmup="10%", end=0.0),
        weight_decay=0.0,
        clip_norm=1.0,
        b1=0.9,
        b2=0.95,
        epsilon=1e-8,
    )
    run.data = Data(
        corpus="builtin:pychats",
        text_field="messages",
        columns=(Messages(field="messages"),),
        packing="best_fit",
        validation_share=0.1,
        test_share=0.0,
    )
    run.stages = (Stage(length=512 if large else 128, share=1.0),)
    run.steps, run.epochs = (0, 3.0) if large else (300, 0.0)
    run.batch_size = 4 if large else 16
    run.evaluation = Evaluation(every_steps=0 if large else 100, rows=0)
    keep = Keep(best_metric="eval/lm_loss", best_mode="min")
    run.checkpoint = Checkpointing(every_steps=run.evaluation.every_steps, keep=keep)
    run.logging = Logging(every_steps=10)
    run.generate = ("What does copy(x) do?",)
    return starting.take(run, start) if start else run
