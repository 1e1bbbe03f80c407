"""What other packages add is found, or refused with the name of the package."""

import sys

import pytest
from copied import python

from speechunlearn import registry
from speechunlearn.corpora.base import Corpus
from speechunlearn.methods import METHODS, Method
from speechunlearn.registry import RegistryError

METHOD = """
from speechunlearn.methods.base import Descent, Method
METHOD = Method("{name}", "Mine", frozenset({{"forget"}}), Descent, print, hyperparameter="epochs")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make packages as pip leaves them: modules, and the entry points of one group."""

    def make(package: str, source: str, *points: str, group: str = "speechunlearn.methods") -> None:
        (tmp_path / f"{package}.py").write_text(source)
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *points]) + "\n")

    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def methods():
    return registry.found("speechunlearn.methods", Method)


def test_methods_of_the_folder_and_of_other_packages_are_found(install):
    install("theirs", METHOD.format(name="mine"), "mine = theirs:METHOD")
    found = methods()
    assert set(found) == {*METHODS, "mine"} and found["mine"].title == "Mine"


@pytest.mark.parametrize(
    ("source", "point", "message"),
    [
        ("1 / 0", "mine = broken:METHOD", "ZeroDivisionError"),
        ("", "mine = broken:METHOD", "AttributeError.*METHOD"),
        ("", "mine = gone:METHOD", "ModuleNotFoundError.*gone"),
        ("METHOD = 3", "mine = broken:METHOD", "is a int, not a Method"),
        ("from speechunlearn.methods.base import Descent, Method\n"
         "METHOD = Method('mine', 'Mine', frozenset(), Descent, print, hyperparameter='')",
         "mine = broken:METHOD",
         "ParameterError.*untuned"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_package(install, source, point, message):
    install("broken", source, point)
    where = "entry point mine = .* of the package 'broken'"
    with pytest.raises(RegistryError, match=f"{where}.*{message}"):
        methods()


def test_two_of_one_name_are_refused_with_both_places(install):
    install("first", METHOD.format(name="delete"), "delete = first:METHOD")
    with pytest.raises(
        RegistryError,
        match="methods: 'delete' is defined by speechunlearn.methods.delete and by entry point "
        "delete = 'first:METHOD' of the package 'first'",
    ):
        methods()


def test_a_corpus_that_is_none_is_refused(install):
    install("odd", METHOD.format(name="mine"), "mine = odd:METHOD", group="speechunlearn.corpora")
    with pytest.raises(RegistryError, match="'odd' is a Method, not a Corpus"):
        registry.found("speechunlearn.corpora", Corpus)


@pytest.mark.parametrize(
    ("source", "point", "message"),
    [
        ("WHERE = 'nowhere'", "mine = coder:WHERE", "is 'nowhere', not the path of a folder"),
        ("WHERE = 3", "mine = coder:WHERE", "is 3, not the path of a folder"),
        ("WHERE = '.'", "nano-arabic = coder:WHERE", "'nano-arabic' is .*/nano-arabic' and "),
        ("WHERE = '.'", "nano = coder:WHERE", "'nano' is 'nano, which is made anew' and entry"),
    ],
)
def test_an_encoder_that_is_none_is_refused(install, source, point, message):
    from speechunlearn.models import classifier

    install("coder", source, point, group="speechunlearn.encoders")
    with pytest.raises(RegistryError, match=f"{message}.*'coder'" if "and" in message else message):
        classifier.carried.__wrapped__()


def test_a_package_that_is_imported_first_is_found(install, tmp_path):
    """It imports the base of the methods before it has defined its own."""
    install("theirs", METHOD.format(name="mine"), "mine = theirs:METHOD")
    code = "import theirs; from speechunlearn import methods; print(methods.get('mine').title)"
    path = ":".join(sys.path[:1] + [p for p in sys.path if p])
    assert python("-c", code, cwd=tmp_path, path=path) == "Mine\n"


LOADED = """
import sys, speechunlearn.tool
lab = ("leaderboard", "tuning", "profiles", "study", "results", "experiments", "runs", "grid",
       "figures", "pages", "scaling", "deletions", "tool.example")
print([name for name in lab if f"speechunlearn.{name}" in sys.modules])
"""


def test_the_tool_loads_nothing_of_the_experiments(tmp_path):
    path = ":".join(p for p in sys.path if p)
    assert python("-c", LOADED, cwd=tmp_path, path=path) == "[]\n"
