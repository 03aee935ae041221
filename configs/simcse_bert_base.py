"""Unsupervised SimCSE on BERT-base: one text, two dropouts, in-batch negatives (Gao et al., 2021, 2104.08821).

Command     python -m jaxlm.train --config=configs/simcse_bert_base.py:DIR --config.data.corpus=PATH
            DIR: a Hugging Face folder of bert-base-uncased, whose weights and tokenizer the run starts from; without
            it the model starts from nothing and its tokenizer is trained on the corpus
Parameters  109,482,240
Data        one short text per document: the published 10^6 sentences of Wikipedia, a line each in JSONL
Settings    as published: batches of 64, 32 tokens, rate 3e-5 falling to 0, 1 epoch, temperature 0.05, dropout 0.1, the
            MLP (BERT's pooler) in training only: `python -m jaxlm.embed` takes [CLS] itself
Expect      published: 76.25, mean Spearman correlation over seven STS tasks
Hardware    one GPU; not yet trained to the end with jaxlm
Differs     the best checkpoint is chosen by the contrastive loss of held-out texts (published: by STS-B)
"""

import jaxlm
from jaxlm.config import Checkpointing, Data, Evaluation, Run, Stage
from jaxlm.data.tokenizer import Pretrained
from jaxlm.objectives.contrastive import DropoutContrastive
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear


def get_config(start: str = "") -> Run:
    """bert_base.py's model; `start` is the folder it starts from."""
    run = jaxlm.load_recipe("bert_base")
    run.objective = DropoutContrastive(
        temperature=0.05, pooling="cls_mlp", max_tokens=30, items_per_row=1, text="documents"
    )
    run.optimizer = AdamW(
        schedule=WarmupLinear(peak=3e-5, warmup="0", end=0.0),
        weight_decay=0.0,
        clip_norm=1.0,
        b1=0.9,
        b2=0.999,
        epsilon=1e-8,
    )
    run.data = Data(corpus="builtin:pydocs", packing="none", validation_share=0.01, test_share=0.0)
    run.stages = (Stage(length=32, share=1.0),)
    run.steps, run.batch_size = 15_625, 64
    run.evaluation = Evaluation(every_steps=250, rows=2048)
    run.checkpoint = Checkpointing(every_steps=1_000)
    if start:
        run.tokenizer, run.init_from = Pretrained(path=start), f"hf:{start}"
    return run
