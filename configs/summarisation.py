"""A text in short: fine-tunes T5, BART or another encoder-decoder on texts and summaries, or trains a small T5.

Command     python -m jaxlm.train --config=configs/summarisation.py --config.init_from=hf:DIR --config.data.corpus=FILE
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            T5 of quickstart_t5.py begins from nothing. FILE: .jsonl, .csv or .parquet with document and summary; other
            names: "--config.data.text_fields=('article', 'highlights')"
Parameters  1,959,680
Data        builtin:pydocs_summaries: 6,800 docstrings without their first sentence, and that sentence
Rows        of 192 tokens, 48 for summaries, up to 8 texts each, which do not see each other; longer texts are cut
Length      3 epochs where a model is given (--config.epochs=N, or --config.steps=N), else 300 steps
Search      4 beams, length penalty 0.6, no 3 tokens twice: --config.objective.search.beams=1 is greedy
Expect      from nothing, on the built-in data: held-out loss 4.78 nats a token, 1.7 below its unigram cross-entropy;
            ROUGE-1 13 on 64 others: sentences as docstrings have them, mostly about something else than the source.
            `jaxlm evaluate --run=RUN --data=FILE` says how far above or below the source's first sentence a model is
Hardware    two CPU cores: 1 min 43 s for 100 steps, with much else on them (2026-11-26)
"""

import jaxlm
from jaxlm.config import Checkpointing, Data, Evaluation, Logging, Run, Stage
from jaxlm.data.corpus.steps import Prefix
from jaxlm.exchange import starting
from jaxlm.objectives.search import Search
from jaxlm.objectives.translation import Summarisation
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear
from jaxlm.tasks.evaluator import TaskMetrics


def get_config(start: str = "") -> Run:
    """As published for T5 and BART but for the optimizer; `start` says what it starts from."""
    large = bool(start) and not starting.is_tiny(start)
    run = jaxlm.load_recipe("quickstart_t5")
    run.objective = Summarisation(
        z_loss=0.0,
        label_smoothing=0.1,
        decoder_start="pad",
        pairs_per_row=8,
        long_sources="cut",
        source_per_target=4,
        search=Search(beams=4, length_penalty=0.6, no_repeat_ngram=3),
    )
    run.optimizer = AdamW(
        schedule=WarmupLinear(peak=3e-4 if large else 3e-3, warmup="10%", end=0.0),
        weight_decay=0.01,
        clip_norm=1.0,
        b1=0.9,
        b2=0.98,
        epsilon=1e-8,
    )
    run.data = Data(
        corpus="builtin:pydocs_summaries",
        text_fields=("document", "summary"),
        steps=(Prefix(text="summarize: "),),
        packing="best_fit",
        validation_share=0.05,
        test_share=0.0,
    )
    run.stages = (Stage(length=192, share=1.0),)
    run.steps, run.epochs = (0, 3.0) if large else (300, 0.0)
    run.batch_size, run.generate = 16, ()
    run.evaluation = Evaluation(every_steps=0 if large else 150, rows=0)
    run.evaluators = (TaskMetrics(rows=64),)
    run.checkpoint = Checkpointing(every_steps=run.evaluation.every_steps)
    run.logging = Logging(every_steps=10)
    if start:
        starting.take(run, start)
        if type(run.model).__name__ == "Bart":  # its format, and no words before a text
            run.objective.decoder_start, run.objective.bos, run.data.steps = "eos", True, ()
    return run
