"""Claims about `jaxlm recipes`: it lists every recipe without running it, and prints the file of one."""

import pytest

from jaxlm.commands import recipes as command
from jaxlm.config import recipes
from jaxlm.errors import UserError


def test_all_recipes_are_listed_with_parameters_and_a_line(capsys):
    assert command.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(recipes.shipped())
    assert lines[0].startswith("quickstart ")
    (base,) = (line for line in lines if line.startswith("bert_base "))
    assert base.split()[1] == "110M" and "BERT-base as published" in base
    assert not [line for line in lines if line.split()[1] == "?"]


def test_the_file_of_one_is_printed_as_it_is(capsys):
    command.main(["recipes", "bert_base"])
    assert capsys.readouterr().out == recipes.shipped()["bert_base"].read_text()
    with pytest.raises(UserError, match='no recipe bert_bas. Did you mean "bert_base"'):
        command.main(["recipes", "bert_bas"])


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (1_884_032, "1.88M"),
        (66_985_530, "67M"),
        (999_700_000, "1000M"),
        (8_030_261_248, "8.03B"),
        (4_096, "4.1k"),
    ],
)
def test_counts_are_shown_with_three_digits(count, shown):
    assert command._short(count) == shown
