"""The built-in corpus: documentation read from source files, never by importing, always the same."""

import subprocess
import sys

import pytest

from jaxlm.data.corpus import builtin

SOURCE = '''
"""Module docstring, long enough to be worth reading by anyone at all."""

class Thing(object):
    """A thing with a docstring that has enough words in it to stay."""

    def method(self):
        """What the method does, told at some length so that it is kept."""

    def short(self):
        """Return the foo."""

def function():
    """Explain the function with as many words as a filter could want.

        Indented once more, as some people do.
    """
    def inner():
        """This one is inside a function, where no reader of documentation ever looks."""

add_newdoc("numpy", "sin", ("cos", """
    Cosine of the argument, element by element, as the user would expect it.
    """))

def table():
    """1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27"""
'''


def test_documents_are_modules_functions_and_classes_with_their_methods():
    module, thing, function, added = builtin.texts_of_source(SOURCE)
    assert module.startswith("Module docstring")
    assert thing.split("\n\n") == [
        "A thing with a docstring that has enough words in it to stay.",
        "What the method does, told at some length so that it is kept.",
    ]
    assert function.endswith("could want.\n\nIndented once more, as some people do.")
    assert added == "Cosine of the argument, element by element, as the user would expect it."


def test_topics_are_values_of_the_dict():
    source = "topics = {'if': 'The \"if\" statement is used for conditional execution of some code.\\n'}"
    assert builtin.texts_of_source(source, topics=True) == [
        'The "if" statement is used for conditional execution of some code.'
    ]
    assert builtin.texts_of_source(source) == []


def test_help_topics_are_found_on_this_machine():
    paths = [
        (name, path) for name, path, _ in builtin.source_files() if name == "python/pydoc_data/topics.py"
    ]
    assert len(paths) == 1
    assert sum(len(text) for text, _ in builtin.texts_of_files(paths)) > 100_000


def test_files_that_do_not_parse_are_left_out(tmp_path):
    (tmp_path / "bad.py").write_text('def f(:\n    """x"""')
    (tmp_path / "latin.py").write_bytes(b'# -*- coding: latin-1 -*-\n"""\xe9"""')
    paths = [str(tmp_path / "bad.py"), str(tmp_path / "latin.py"), "/no/such.py"]
    assert builtin.texts_of_files([("a", path) for path in paths]) == []


@pytest.fixture
def few_files(monkeypatch):
    names = ("python/argparse.py", "python/decimal.py", "python/_pydecimal.py", "python/statistics.py")
    found = [file for file in builtin.source_files() if file[0] in names]
    monkeypatch.setattr(builtin, "source_files", lambda: found)
    monkeypatch.setattr(builtin.workers, "count", lambda wish: 1)


def test_collecting_twice_gives_the_same_documents_without_copies(tmp_path, few_files):
    said: list[str] = []
    first = list(builtin.PyDocs(tmp_path / "a", said.append).records())
    assert list(builtin.PyDocs(tmp_path / "b", said.append).records()) == first
    assert len(set(first)) == len(first) > 50
    assert len(said) == 2
    source = builtin.PyDocs(tmp_path / "a", said.append)
    assert list(source.records()) == first and len(said) == 2  # from the cache, without a word
    assert source.text_bytes() > sum(record.text_bytes for record in first)
    assert source.identity() == builtin.PyDocs(tmp_path / "b", print).identity()


def test_every_document_has_the_package_that_it_is_from_as_its_label(tmp_path, monkeypatch):
    names = ("python/statistics.py", "optax/_src/update.py", "absl/flags/_flag.py")
    found = [file for file in builtin.source_files() if file[0] in names]
    monkeypatch.setattr(builtin, "source_files", lambda: found)
    monkeypatch.setattr(builtin.workers, "count", lambda wish: 1)
    plain, labelled = (list(builtin.PyDocs(tmp_path, print, flag).records()) for flag in (False, True))
    assert [record.texts for record in plain] == [record.texts for record in labelled]
    assert {record.values for record in plain} == {()}
    assert {record.values for record in labelled} == {("python",), ("optax",), ("absl",)}
    assert builtin.PyDocs(tmp_path, print).identity() != builtin.PyDocs(tmp_path, print, True).identity()


def test_reading_the_sources_imports_none_of_the_packages():
    code = (
        "import sys; from jaxlm.data.corpus import builtin; files = builtin.source_files();"
        "assert {name.split('/')[0] for name, *_ in files} >= {'python', 'numpy', 'jax', 'flax', 'optax'};"
        "builtin.texts_of_files([(name, path) for name, path, _ in files if name.startswith('optax/')][:9]);"
        "bad = {'jax', 'flax', 'optax', 'scipy', 'orbax', 'pydoc_data'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_underlines_of_titles_are_left_out():
    (text,) = builtin.texts_of_source(
        'def f():\n    """Adds two numbers and returns.\n\n    Returns\n    -------\n    out - the sum of both\n    """\n'
    )
    assert text == "Adds two numbers and returns.\n\nReturns\nout - the sum of both"
