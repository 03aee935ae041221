"""BART-large: 12 + 12 layers, 1024 wide, denoising, 500k steps of 8,000 rows (Lewis et al., 1910.13461, section 5.1).

Command     python -m jaxlm.train --config=configs/bart_large.py --config.data.corpus=PATH_OR_GLOB
Parameters  406,291,456
Data        160 GB of text when published (books, Wikipedia, news, web pages, stories), as for RoBERTa
Rows        512 tokens of text, damaged: spans of 30 % of it hidden, all sentences shuffled
Expect      with the published data, SQuAD 1.1 F1 94.6, CNN/DailyMail ROUGE-L 40.90 (fine-tuned)
Hardware    not published; not yet trained to the end with jaxlm
Differs     the optimizer's settings are RoBERTa's (the paper gives none); SentencePiece BPE instead of GPT-2's
            vocabulary; documents of a packed row do not see each other; dropout stays on in the last 10 % of the steps
"""

import jaxlm
from jaxlm.config import Run


def get_config() -> Run:
    """bart_base.py with another shape."""
    run = jaxlm.load_recipe("bart_base")
    run.model.hidden, run.model.encoder_layers, run.model.decoder_layers = 1024, 12, 12
    run.model.heads, run.model.mlp = 16, 4096
    return run
