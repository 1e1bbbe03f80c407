"""Every way of CONTRIBUTING.md is carried out word by word, in a copy of the repository.

What is run of the copy's own tests is what looks at a registry or at all of its members, for what
was added: the rest cannot tell that there is one more. The whole suite would take as long again.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import checkpoint
import copied
import pytest
from conftest import REPOSITORY, write_clip

pytestmark = pytest.mark.slow

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
WAYS = ("A corpus", "A method", "A metric", "An encoder", "A chapter")


class Step(NamedTuple):
    """A block of code with what stands before it."""

    file: str
    added: bool
    language: str
    code: str


def steps(title: str) -> Iterator[Step]:
    """Yield the blocks of a section; one that no file's name stands before is run."""
    # a page has headings of its own
    section = re.split(r"\n## (?:An? |In a )", TEXT.split(f"\n## {title}\n")[1])[0]
    for before, language, code in re.findall(r"(.*)\n\n```(\w+)\n([\s\S]*?)```\n", section):
        named = re.search(r"(Added to )?`([^`\n]+)`:$", before)
        file, added = (named[2], bool(named[1])) if named else ("", False)
        yield Step(file, added, language, code)


def carry_out(step: Step, copy: Path) -> None:
    """Do what a block says."""
    if step.file:
        target = copy / step.file
        assert target.exists() == step.added and target.parent.is_dir()
        target.write_text((target.read_text() if step.added else "") + step.code)
    elif step.language == "python":
        copied.python("-c", step.code, cwd=copy, path=copy)
    else:
        assert step.language == "sh"
        # make would install the packages anew
        command = re.sub(r"\bmake ", "make -o .venv/.ready ", step.code)
        copied.run("bash", "-ec", command, cwd=copy, path=copy)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository in which every way was gone."""
    folder = copied.copy_to(tmp_path_factory.mktemp("copy") / "repository")
    (folder / ".venv").symlink_to(sys.prefix)
    for title in WAYS:
        done = list(steps(title))
        assert done
        for step in done:
            carry_out(step, folder)
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A small checkpoint and clips."""
    folder = tmp_path_factory.mktemp("desk")
    checkpoint.write(folder / "model")
    checkpoint.clips(folder, "forget", 4, 0)
    return folder


def my_words(folder: Path) -> Path:
    """Write clips in the layout of the corpus."""
    for i, name in enumerate(("yes/anna-1", "no/anna-1", "yes/ben-1", "no/ben-1")):
        write_clip(folder / f"{name}.wav", seed=i)
    return folder


def uniform(desk: Path, command: str, *arguments: object) -> list[object]:
    """A command line about a request by the added method."""
    return [
        command, "--model", desk / "model", "--forget", desk / "forget.csv", "--method", "uniform",
        *arguments,
    ]


#: tests that look at a registry as a whole, at what was added, or at committed results beside it
SEEING = (
    "my_words or uniform or median_loss or my-encoder or registry or registered or has_a_card or "
    "known_ones or every_split or each_metric or every_chapter or hyperparameter or "
    "(committed_leaderboard and cpu-ravdess)"
)
FILES = (
    "my_words", "corpora", "methods", "tuning", "book", "context", "make_encoders", "audit",
    "metrics", "promises",
)


def test_the_tests_of_the_copy_pass(copy):
    said = copied.python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SEEING,
        "speechunlearn/audit/metrics.py", "speechunlearn/audit/scoring.py",
        *(f"tests/test_{name}.py" for name in FILES), cwd=copy, path=copy,
    )
    assert int(re.search(r"(\d+) passed", said)[1]) > 25


RANKED = """
import sys; sys.path.insert(0, "tests")
import numpy as np
from answers import answers, evaluation
from speechunlearn.lab import leaderboard, tuning
from speechunlearn.lab.results import ANOTHER_SEED, Results
assert "uniform" in tuning.names(())
both = ("original", 3.0), ("uniform", 0.2)
evaluations = [evaluation(m, answers(0, forget=f)) for m, f in both]
for seed in range(4):
    own = {"seed": seed, "variant": ANOTHER_SEED if seed else ""}
    evaluations.append(evaluation("retrain", answers(50 + seed), **own))
    if seed:
        evaluations.append(evaluation("original", answers(75 + seed, forget=3), **own))
found = Results.of(evaluations)
random = np.random.default_rng(0)
table = leaderboard.ranking(found, leaderboard.scored(found), n_resamples=100, generator=random)
print(*table["method"])
"""
ENCODER = """
from speechunlearn.models import classifier as c
print(c.pretrained_on("my-encoder"), *c.build("my-encoder", ["a", "b", "c"], 0).labels)
"""


@pytest.fixture(scope="module")
def said(copy, desk, tmp_path_factory):
    """What the copy says of all that was added, and the folder of a request's outputs."""
    words, out = my_words(tmp_path_factory.mktemp("words")), tmp_path_factory.mktemp("out")
    calls = {
        "corpora": ["corpora"],
        "manifest": ["manifest", "my_words", "--root", words],
        "forget": uniform(desk, "forget", "-p", "learning_rate=0.001", "--out", out),
        "cost": uniform(desk, "cost", "--budget", "0.3"),
        "ranked": RANKED,
        "encoder": ENCODER,
    }
    return copied.sequential_speakers(calls, cwd=copy, path=copy) | {"out": out}


def test_a_corpus(said):
    assert said["manifest"].count(",my_words,") == 4
    assert "my_words: My words\n  licence: CC BY 4.0" in said["corpora"]


def test_a_method(said):
    (step,) = steps("A method")
    assert len(step.code.splitlines()) <= 30
    report = json.loads((said["out"] / "report.json").read_text())
    assert report["method"]["title"] == "Uniform"
    # it ends where the clips are forgotten
    assert report["cost"]["forward_backward"] == len(report["details"]["history"]) * 4
    assert "learning_rate is the request's own" in report["method"]["why"]


def test_cost_takes_a_method(said):
    assert "Uniform: 4 forget clips" in said["cost"]


def test_the_leaderboard_takes_a_method(said):
    assert "uniform" in said["ranked"].split()


PAGES = """
import sys; sys.path.insert(0, "book")
from pathlib import Path
import build, generate
source = Path(sys.argv[1])
build.stage(build.STORED, source)
generate.registry_pages(source)
"""


def test_the_book_has_a_page_of_each(copy, tmp_path):
    copied.python("-c", PAGES, tmp_path / "source", cwd=copy, path=copy)
    book, generated = tmp_path / "source" / "book", tmp_path / "source" / "generated"
    for folder, kind, name in (("methods", "method", "uniform"), ("corpora", "corpus", "my_words")):
        page = (book / folder / f"{name}.md").read_text()
        included = re.findall(r"{include} ../../(.*)\n", page)
        assert included and all((tmp_path / "source" / file).is_file() for file in included)
        assert f"<{kind}-{name}>`" in (generated / f"{folder}.md").read_text()
    assert "cross-entropy to the uniform" in (generated / "methods" / "uniform.md").read_text()
    assert (book / "metrics" / "median_loss.md").is_file()
    assert (tmp_path / "source" / "notebooks" / "13_name.ipynb").is_file()


def test_an_encoder(said):
    assert said["encoder"] == "['my_words'] a b c\n"


def test_a_chapter(copy):
    copied.python("book/check.py", cwd=copy, path=copy)
    copied.python("-m", "ruff", "check", ".", cwd=copy, path=copy)


@pytest.fixture
def own_package(tmp_path):
    """A package as installed: what CONTRIBUTING.md writes here, and the entry points it names."""
    (toml,) = steps("In a package of your own")
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    for title in ("A method", "A corpus"):
        step = next(steps(title))
        (package / Path(step.file).name).write_text(step.code)
    nano = REPOSITORY / "speechunlearn" / "encoders" / "nano-arabic"
    (package / "__init__.py").write_text(f"ENCODER = {str(nano)!r}\n")
    groups = tomllib.loads(toml.code)["project"]["entry-points"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in groups.items()
    )
    about = tmp_path / "site" / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    return tmp_path / "site"


def test_a_package_of_your_own(own_package, desk, tmp_path):
    words, out = my_words(tmp_path / "words"), tmp_path / "out"
    calls = {
        "forget": uniform(desk, "forget", "-p", "epochs=1", "--out", out),
        "manifest": ["manifest", "my_words", "--root", words],
        "encoder": (
            "from speechunlearn.models import classifier as c\n"
            "print(*c.pretrained_on('my-encoder'))"
        ),
    }
    said = copied.sequential_speakers(calls, cwd=tmp_path, path=f"{REPOSITORY}:{own_package}")
    report = json.loads((out / "report.json").read_text())
    assert report["method"]["name"] == "uniform"
    assert said["manifest"].count(",my_words,") == 4
    assert said["encoder"] == "arabic_speech_commands\n"
