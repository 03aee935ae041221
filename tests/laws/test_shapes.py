"""Law: the letters of an einsum agree with the suffixes of the names around it.

`q_BTNH = jnp.einsum("BTD,DNH->BTNH", x_BTD, wq_DNH)`: a suffix in capitals that differs from its subscript is a bug
waiting for square shapes.
"""

import ast
import pathlib
import re

PACKAGE = pathlib.Path(__file__).parents[2] / "jaxlm"


def _suffix(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Subscript, ast.Call)):
        node = node.value if isinstance(node, ast.Subscript) else node.func
        if isinstance(node, ast.Attribute) and node.attr in ("astype",):
            node = node.value
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    match = re.search(r"_([A-Z0-9]+)$", name)
    return match.group(1) if match and not name.isupper() else None


def violations(source: str) -> list[str]:
    """Lines whose einsum subscripts and name suffixes disagree."""
    found = []
    for statement in ast.walk(ast.parse(source)):
        for call in [statement] if isinstance(statement, ast.Call) else []:
            function = call.func
            if not (isinstance(function, ast.Attribute) and function.attr == "einsum"):
                continue
            if not (call.args and isinstance(call.args[0], ast.Constant) and "->" in str(call.args[0].value)):
                continue
            inputs = str(call.args[0].value).replace("...", "").replace(" ", "").split("->")[0].split(",")
            for subscript, argument in zip(inputs, call.args[1:], strict=False):
                suffix = _suffix(argument) if isinstance(argument, (ast.Name, ast.Attribute)) else None
                if suffix and suffix != subscript:
                    found.append(f"line {call.lineno}: {ast.unparse(argument)} under {subscript!r}")
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            call = statement.value
            if isinstance(call.func, ast.Attribute) and call.func.attr == "einsum" and call.args:
                text = call.args[0]
                if isinstance(text, ast.Constant) and "->" in str(text.value) and len(statement.targets) == 1:
                    result = str(text.value).replace("...", "").replace(" ", "").split("->")[1]
                    suffix = (
                        _suffix(statement.targets[0]) if isinstance(statement.targets[0], ast.Name) else None
                    )
                    if suffix and suffix != result:
                        found.append(
                            f"line {statement.lineno}: {ast.unparse(statement.targets[0])} = ...->{result}"
                        )
    return found


def test_a_planted_mistake_is_found():
    assert violations('o_BTNH = jnp.einsum("BNTS,BSNH->BNTH", p_BNTS, v_BSNH)')
    assert violations('o_BTNH = jnp.einsum("BTNS,BSNH->BTNH", p_BNTS, v_BSNH)')
    assert not violations('o_BTNH = jnp.einsum("BNTS,BSNH->BTNH", p_BNTS, v_BSNH)')


def test_einsum_letters_agree_with_suffixes():
    found = {p.relative_to(PACKAGE).as_posix(): violations(p.read_text()) for p in PACKAGE.rglob("*.py")}
    assert not {name: lines for name, lines in found.items() if lines}
