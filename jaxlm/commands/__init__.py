"""The commands of a user: the file of each has its name, `main(argv)`, which returns an exit code, and `run()`.

Options in, exit code out. `jaxlm NAME` opens each of them; the table below is what `jaxlm --help` prints.
"""

GROUPS: dict[str, dict[str, str]] = {
    "Train": {
        "train": "trains a model by a recipe, or continues the run of a folder",
        "recipes": "what can be trained: name, parameters and a line of every recipe, or the file of one",
        "plan": "does it fit on a machine that is not here, how fast would it be, and what would fit?",
        "data": "prepares a corpus ahead of time: text, tokenizer, shards",
    },
    "Use": {
        "fill_mask": "the likeliest tokens for every [MASK]",
        "generate": "text from a decoder or an encoder-decoder",
        "embed": "vectors of texts, and their cosines",
        "predict": "a table with the model's answers as new columns",
        "compress": "a smaller and faster model: fewer bits, fewer weights; says what that costs",
        "serve": "models behind HTTP, for the clients of OpenAI, Hugging Face and KServe",
        "soup": "a run whose weights are the mean of several runs'",
        "evaluate": "what a run measures on a split of its corpus, or any model on a table",
        "lm_eval": "the LM evaluation harness with a model of ours",
    },
    "To and from Hugging Face": {
        "import": "a Hugging Face folder becomes a model folder",
        "export": "a run or a model folder becomes a Hugging Face folder",
        "compare": "do two folders, of any kind, hold the same model?",
    },
    "Look": {
        "report": "one HTML page about runs: curves, settings that differ, samples, rows",
        "stream": "which documents a step saw; --verify replays what the run has read",
        "verify_resume": "kills a run, goes on elsewhere, and compares bits, rows and losses",
        "inspect": "what a checkpoint holds, and whether it is intact",
        "doctor": "what is installed here, and what is wrong with it",
    },
}
