"""Chat templates as published, and a small tokenizer that has their special tokens."""

import functools
import json
import pathlib

from jaxlm.data import tokenizer

CHATML = (  # SmolLM2-Instruct
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
MARKED = (  # ChatML with the answers marked, and what only transformers' environment has
    "{%- for message in messages %}\n    {%- if message.role == 'assistant' %}\n"
    "        {{- '<|im_start|>assistant\\n' }}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}\n"
    "        {{- '\\n' }}\n    {%- else %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content }}\n"
    "        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{{- messages[0] | tojson }}{{ strftime_now('%Y') }}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
PUBLISHED = {"chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL, "marked": MARKED}

SPECIAL = (
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)


@functools.cache
def _json() -> str:
    made = tokenizer.train(
        tokenizer.ByteBpe(vocab_size=400, sentinels=0, infill="off"),
        ["Who wrote the book? The old friend did. " * 20],
    )
    config = json.loads(made.text)  # pyright: ignore[reportAttributeAccessIssue]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    size = max([*config["model"]["vocab"].values(), *(one["id"] for one in config["added_tokens"])]) + 1
    config["added_tokens"] += [
        {"id": size + i, "content": name, "special": True, **flags} for i, name in enumerate(SPECIAL)
    ]
    return json.dumps(config)


def folder(place: pathlib.Path, template: str | None, end: str = "</s>") -> pathlib.Path:
    """A tokenizer's folder, as transformers writes it."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "tokenizer.json").write_text(_json())
    settings = {"bos_token": "<s>", "eos_token": end, "tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {} if template is None else {"chat_template": template}
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    return place
