"""Tiny folders of every family, as transformers saves them, with a tokenizer of the family's kind beside them."""

import pathlib
from typing import Any

from jaxlm.data.tokenizer import Bpe, ByteBpe, Unigram, WordPiece
from jaxlm.exchange import tokenizer_files
from tests.exchange.folders import TEXTS

SENTENCES = [f"{text}. Number {i} is here." for i, text in enumerate(TEXTS)]
_WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_ENCODER = {**_WIDTHS, "max_position_embeddings": 64}
_HALF = {"layers": 2, "attention_heads": 4, "ffn_dim": 48}
_BOTH = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in _HALF.items()}
_SEQ2SEQ = {"d_model": 32, "max_position_embeddings": 64, **_BOTH}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_PIECES, _WORDS = Bpe(vocab_size=120, sentinels=0), WordPiece(vocab_size=120, lowercase=True)
_BYTES, _SPANS = ByteBpe(vocab_size=300, sentinels=0, infill="off"), Unigram(vocab_size=70, sentinels=20)

# Name: (recipe that goes on with it, class of the model, class of its config, settings, tokenizer)
FAMILIES: dict[str, tuple[str, str, str, dict[str, Any], Any]] = {
    "bert": ("continue_mlm", "BertForMaskedLM", "BertConfig", _ENCODER, _WORDS),
    "roberta": (
        "continue_mlm",
        "RobertaForMaskedLM",
        "RobertaConfig",
        {**_ENCODER, "type_vocab_size": 1},
        _WORDS,
    ),
    "albert": (
        "continue_mlm",
        "AlbertForMaskedLM",
        "AlbertConfig",
        {**_ENCODER, "embedding_size": 16},
        _WORDS,
    ),
    "distilbert": (
        "continue_mlm",
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
        _WORDS,
    ),
    "modernbert": ("continue_mlm", "ModernBertForMaskedLM", "ModernBertConfig", _ENCODER, _WORDS),
    "electra/discriminator": (
        "continue_mlm",
        "ElectraForPreTraining",
        "ElectraConfig",
        {**_ENCODER, "embedding_size": 16},
        _WORDS,
    ),
    "electra/generator": (
        "continue_mlm",
        "ElectraForMaskedLM",
        "ElectraConfig",
        {**_ENCODER, "embedding_size": 16},
        _WORDS,
    ),
    "t5": ("continue_seq2seq", "T5ForConditionalGeneration", "T5Config", _T5, _SPANS),
    "bart": ("continue_seq2seq", "BartForConditionalGeneration", "BartConfig", _SEQ2SEQ, _PIECES),
    "marian": (
        "continue_seq2seq",
        "MarianMTModel",
        "MarianConfig",
        {**_SEQ2SEQ, "scale_embedding": True},
        _PIECES,
    ),
    "gpt2": (
        "continue_causal",
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        _BYTES,
    ),
    "llama": ("continue_causal", "LlamaForCausalLM", "LlamaConfig", _ENCODER, _BYTES),
}


def save(name: str, root: pathlib.Path) -> pathlib.Path:
    """The folder of a family below `root`."""
    import transformers

    _, model, config, settings, tokenizer = FAMILIES[name]
    made = tokenizer.make(SENTENCES)
    ids = {
        f"{role}_token_id": max(getattr(made.vocabulary, role), 0)
        for role in ("pad", "bos", "eos", "cls", "sep")
    }
    if name in ("bart", "marian"):
        ids |= {"forced_eos_token_id": ids["eos_token_id"]}
        start = "eos_token_id" if name == "bart" else "pad_token_id"
        ids |= {"decoder_start_token_id": ids[start]}
    made_config = getattr(transformers, config)(
        vocab_size=made.size + (100 if name == "t5" else 0),  # its class may add sentinels
        **{**ids, **settings},
    )
    weights = getattr(transformers, model)(made_config)
    if name == "electra/generator":  # the pair shares its embeddings
        other = transformers.ElectraForPreTraining.from_pretrained(root / "electra" / "discriminator")
        weights.electra.embeddings.load_state_dict(other.electra.embeddings.state_dict())
    weights.save_pretrained(root / name)
    made.save(root / name)
    if name == "t5":  # transformers saves it with all that its class adds
        files = tokenizer_files.of_folder(root / name)
        for file, text in tokenizer_files.for_transformers(
            files, name, causal=False, types=False, length=64
        ).items():
            (root / name / file).write_bytes(text)
    return root / name
