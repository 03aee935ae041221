"""A text in another language: fine-tunes Marian, T5 or BART on pairs of texts, or trains a small T5 on a toy.

Command     python -m jaxlm.train --config=configs/translation.py --config.init_from=hf:DIR --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            T5 of quickstart_t5.py begins from nothing. FILE: of a .tsv `source TAB target` a line; of .jsonl, .csv or
            .parquet name the columns: "--config.data.text_fields=('en', 'de')". What T5 is to do is said before every
            source: "--config.data.steps=(Prefix(text='translate English to German: '),)"
Parameters  1,042,176
Data        builtin:pydocs_names: 12,000 names of code, and their words (get_file_name: get file name)
Rows        of 64 tokens on both sides, up to 16 pairs each, which do not see each other; longer pairs are left out
Search      4 beams, length penalty 0.6: --config.objective.search.beams=1 is greedy
Expect      from nothing, on the built-in data: held-out loss 0.93 nats a token, accuracy 80 %, BLEU 31, chrF 65
Hardware    two CPU cores: 2 min 11 s with others on them (2026-11-26)
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.data.tokenizer import Unigram
from jaxlm.objectives.search import Search
from jaxlm.objectives.translation import Translation


def get_config(start: str = "") -> Run:
    """As summarisation.py, with rows of one length on both sides."""
    run = jaxlm.load_recipe(f"summarisation:{start}" if start else "summarisation")
    run.objective = Translation(
        z_loss=0.0,
        label_smoothing=0.1,
        decoder_start=run.objective.decoder_start,
        bos=run.objective.bos,
        pairs_per_row=16,
        search=Search(beams=4, length_penalty=0.6),
    )
    run.data.corpus, run.data.text_fields, run.data.steps = "builtin:pydocs_names", ("source", "target"), ()
    if not start:
        run.model.vocab_size, run.tokenizer = 512, Unigram(vocab_size=512, sentinels=0)
    run.stages = (Stage(length=min(64, run.stages[0].length), share=1.0),)
    run.steps, run.batch_size = 0 if run.epochs else 400, 32
    run.evaluation.every_steps = run.checkpoint.every_steps = 0 if run.epochs else 200
    return run
