"""The answer to a question, as a part of a text: fine-tunes an encoder on files of SQuAD's form, or trains a small one.

Command     python -m jaxlm.train --config=configs/question_answering.py --config.init_from=hf:DIR
            --config.data.corpus=train.json
            init_from: a Hugging Face folder, a run or a model folder; model and tokenizer come from it. Without it the
            encoder of quickstart.py begins from nothing, or with what runs/quickstart learnt where that is
            The corpus: SQuAD's .json (1.1, 2.0), or .jsonl with question, context, answers {"text": [...],
            "answer_start": [...]}; rows of a table with question, context, answer, start. Where questions may have no
            answer: --config.objective.no_answer=True
Parameters  1,875,202
Data        builtin:pydocs_questions: what a parameter of a documented function is
Expect      from nothing, on the built-in questions, after 200 of 300 steps: held-out exact match 0.21, F1 0.40, when
            other questions about the same docstrings were trained on (now none are: expect less); all-MiniLM-L6-v2 on
            1,900 questions of SQuAD, 149 steps of 8 rows of 256 at a rate of 2e-4: exact match 0.220 (0.181 to 0.261),
            F1 0.406 (0.367 to 0.446) on 400 about other articles
Rows        of 384 tokens (from nothing 256), up to 8 windows each, which do not see each other
Hardware    two CPU cores, with others on them: 7 min from nothing; 12 min for MiniLM (8 min of CPU time) (2026-11-26)
"""

import jaxlm
from jaxlm.config import Run, Stage
from jaxlm.data.corpus.columns import Answers
from jaxlm.exchange import starting
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.tasks.evaluator import TaskMetrics


def get_config(start: str = "") -> Run:
    """Devlin et al.'s fine-tuning on SQuAD, as classification.py otherwise."""
    large = bool(start) and not starting.is_tiny(start)
    run = jaxlm.load_recipe(f"classification:{start}" if start else "classification")
    length = 384 if large else 256  # the former is published, with an overlap of 128
    if not large:
        run.model.max_positions = length
    run.objective = QuestionAnswering(
        column="answers",
        no_answer=False,
        max_tokens=length,
        overlap=length // 3,
        question_tokens=64,
        items_per_row=8,
    )
    run.data.corpus, run.data.text_fields = "builtin:pydocs_questions", ("question", "context")
    run.data.columns = (Answers(field="answers", text="context"),)
    run.stages = (Stage(length=length, share=1.0),)
    run.evaluators = (TaskMetrics(rows=500),)
    run.checkpoint.keep.best_metric = "eval/f1"
    return run
