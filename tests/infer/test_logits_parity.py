"""Claim: the logits of texts are transformers' of the same ids, whatever stands beside a text in its batch."""

import numpy as np
import pytest

import jaxlm
from jaxlm.data import tokenizer
from jaxlm.errors import UserError
from jaxlm.infer import frame

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

TEXTS = ["the cat sat on the mat", "a dog", "the garden has a red door and a dog sat in it"]
ANSWERS = ["a red door", "the mat on the garden", "it"]
TOLERANCE = 2e-5
TOKENIZERS = {
    "BERT": tokenizer.WordPiece(vocab_size=190, lowercase=True),
    "GPT-2": tokenizer.ByteBpe(vocab_size=290, sentinels=0, infill="off"),
    "T5": tokenizer.Unigram(vocab_size=150, sentinels=4),
}


def theirs(name: str, vocabulary):
    sizes = {"vocab_size": vocabulary.size + 100}  # transformers adds 100 sentinels to T5's
    if name == "BERT":
        layers = {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 40,
        }
        return transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **layers))
    if name == "GPT-2":
        ids = {"bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos}
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**sizes, **ids, n_embd=24, n_layer=2, n_head=4)
        )
    ids = {
        "decoder_start_token_id": vocabulary.pad,
        "pad_token_id": vocabulary.pad,
        "eos_token_id": vocabulary.eos,
    }
    layers = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, **ids, **layers))


@pytest.fixture(scope="module", params=TOKENIZERS)
def both(request, tmp_path_factory):
    """(ours, theirs) of one folder."""
    folder = tmp_path_factory.mktemp(request.param)
    trained = tokenizer.train(TOKENIZERS[request.param], [*TEXTS, *ANSWERS, str(np.linalg.svd.__doc__)] * 5)
    torch.manual_seed(1)
    hf = theirs(request.param, trained.vocabulary).eval()
    with torch.no_grad():
        for weight in hf.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    hf.save_pretrained(folder)
    trained.save(folder)
    return jaxlm.load(f"hf:{folder}"), hf


def test_they_are_those_of_transformers(both):
    model, hf = both
    answers = ANSWERS if model.model.config.kind == "encoder_decoder" else None
    for i, scored in enumerate(model.logits(TEXTS, answers)):
        ids = {"input_ids": torch.tensor(scored.ids_T[None].astype(np.int64))}
        if answers is not None:
            around = frame.of_loaded(model)
            source = [*around.before, *model.tokenizer.encode_marked(TEXTS[i]), *around.after]
            ids = {"input_ids": torch.tensor([source]), "decoder_input_ids": ids["input_ids"]}
        with torch.no_grad():
            expected = hf(**ids).logits[0].numpy()
        assert scored.logits_TV.shape == expected.shape and len(scored.ids_T) > 1
        np.testing.assert_allclose(scored.logits_TV, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_answers_are_for_encoder_decoders_and_for_each_text(both):
    model, _ = both
    wrong = ANSWERS[:2] if model.model.config.kind == "encoder_decoder" else ANSWERS
    with pytest.raises(UserError, match="answers: one for every text of an encoder-decoder"):
        model.logits(TEXTS, wrong)


def test_a_text_longer_than_the_model_is_refused(both):
    model, _ = both
    if model.model.config.kind == "encoder_decoder":
        assert model.logits(["the " * 700], ["a"])[0].logits_TV.shape[0] > 1  # T5 has no longest row
        return
    with pytest.raises(UserError, match="row"):
        model.logits("the cat " * 700)
