"""Names of arrays as checkpoints had them before: a head was a part of its model, now all are under `heads/`.

In: the names in a checkpoint, and those that are wanted. Out: which array is what.
"""

import re
from collections.abc import Iterable

_PATHS = (
    (r"(^|/)(?:generator/)?token_head/", r"\1heads/tokens/"),
    (r"(^|/)(?:discriminator/)?detect_head/", r"\1heads/replaced/"),
    (r"(^|/)next_sentence_head/([wb])_pool(/|$)", r"\1heads/pooler/\2\3"),
    (r"(^|/)next_sentence_head/", r"\1heads/{question}/"),
)
_HEAD = re.compile(r"(?:^|/)heads/([^/]+)/")


def by_present_name(stored: Iterable[str], wanted: Iterable[str] | None) -> dict[str, str]:
    """{name of today: name in the checkpoint}; heads of before of which nothing is `wanted` any more are left out.

    The one head for questions about pairs is that for sentence order where this is wanted, else for next sentence.
    `wanted` None: all, as they are.
    """
    if wanted is None:
        return {name: name for name in stored}
    found, heads = {}, {head[1] for name in wanted if (head := _HEAD.search(name))}
    question = "sop" if "sop" in heads else "nsp"
    for name in stored:
        now = name
        for pattern, path in _PATHS:
            now = re.sub(pattern, path.format(question=question), now)
        head = _HEAD.search(now)
        if now == name or (head and head[1] in heads):
            found[now] = name
    return found
