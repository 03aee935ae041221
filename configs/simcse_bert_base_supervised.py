"""Supervised SimCSE on BERT-base: entailments as positives, contradictions as hard negatives (Gao et al., 2104.08821).

Command     python -m jaxlm.train --config=configs/simcse_bert_base_supervised.py:DIR --config.data.corpus=PATH
            DIR: a Hugging Face folder of bert-base-uncased, as in simcse_bert_base.py
Parameters  109,482,240
Data        JSONL with the fields anchor, positive and negative: the published 275,601 triples of SNLI and MultiNLI
Settings    as published: batches of 512, 32 tokens a text, rate 5e-5 falling to 0, 3 epochs, temperature 0.05, the MLP
            (BERT's pooler) in training and in use
Expect      published: 81.57, mean Spearman correlation over seven STS tasks
Hardware    one GPU; not yet trained to the end with jaxlm
Differs     the best checkpoint is chosen by the contrastive loss of held-out triples (published: by STS-B)
"""

import jaxlm
from jaxlm.config import Data, Evaluation, Run, Stage
from jaxlm.objectives.contrastive import PairContrastive
from jaxlm.optim.schedules import WarmupLinear


def get_config(start: str = "") -> Run:
    """simcse_bert_base.py with triples."""
    run = jaxlm.load_recipe(f"simcse_bert_base:{start}")
    run.objective = PairContrastive(
        temperature=0.05, pooling="cls_mlp", max_tokens=30, items_per_row=1, negatives="hard"
    )
    run.optimizer.schedule = WarmupLinear(peak=5e-5, warmup="0", end=0.0)
    run.data = Data(
        corpus="nli_for_simcse.jsonl",
        text_fields=("anchor", "positive", "negative"),
        packing="none",
        validation_share=0.01,
        test_share=0.0,
    )
    run.stages = (Stage(length=96, share=1.0),)
    run.steps, run.batch_size = 1_617, 512
    run.evaluation = Evaluation(every_steps=125, rows=2048)
    return run
