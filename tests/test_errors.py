"""Our errors are Python's own kinds too, and no `try` of the package takes them for another's."""

import pickle

import pytest

from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.recordings.table.table_writer import new_table


@pytest.mark.parametrize(
    ("kind", "known"),
    [(DataError, ValueError), (ConfigError, ValueError), (MissingError, FileNotFoundError)],
)
def test_errors_are_pythons_own_and_keep_their_words(kind, known):
    problem = kind("a.tsv is missing: copy it")
    assert isinstance(problem, known) and isinstance(problem, NeurovlError)
    assert str(problem) == "a.tsv is missing: copy it"
    again = pickle.loads(pickle.dumps(problem))  # as a process hands it to another
    assert type(again) is kind and again.args == problem.args


@pytest.mark.parametrize("kind", [DataError, ConfigError, MissingError])
def test_a_table_that_cannot_be_made_says_why_in_its_own_words(kind, tmp_path):
    with pytest.raises(kind, match="^no file of any subject$"), new_table(tmp_path / "table"):
        raise kind("no file of any subject")
    assert list(tmp_path.iterdir()) == []
