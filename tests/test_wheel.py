"""An installed wheel is the same tool as the checkout that it was built from."""

import json
import shutil
import subprocess
import sys

import checkpoint
import copied
import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.slow

#: what a report says of when and where it was made
#: a record is salted anew in each
_OF_THE_RUN = {"seconds", "peak_memory_mb", "finished", "outputs", "file", "record"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A clean checkout of the package, without the recordings and results."""
    folder = copied.copy_to(tmp_path_factory.mktemp("checkout"), without=("data", "notebooks"))
    copied.commit_all(folder)
    return folder


@pytest.fixture(scope="module")
def target(checkout, tmp_path_factory):
    """A folder inside somebody's own repository that the wheel was installed into."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = shutil.copytree(checkout, tmp_path_factory.mktemp("built") / "source")
    copied.run(
        *pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels,
        source, cwd=wheels,
    )
    (wheel,) = wheels.glob("speechunlearn-*.whl")
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    copied.commit_all(theirs)
    installed = theirs / "packages"
    copied.run(
        *pip, "install", "--quiet", "--no-deps", "--no-index", "--target", installed, wheel,
        cwd=theirs,
    )
    return installed


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A small checkpoint and clips."""
    folder = tmp_path_factory.mktemp("desk")
    checkpoint.write(folder / "model")
    for seed, (name, n) in enumerate((("forget", 4), ("retain", 6), ("unseen", 6))):
        checkpoint.clips(folder, name, n, seed)
    return folder


SAME = """
import json
from speechunlearn import corpora, methods
from speechunlearn.models import classifier
from speechunlearn.tool import defaults
print(json.dumps({
    "default": [defaults.choose(a) for a in ({"forget"}, {"forget", "retain"})],
    "strengths": {
        name: defaults.choose({"forget", "retain"}, name)
        for name in methods.METHODS if defaults.usable(name)
    },
    "cards": {name: corpora.card(name) for name in corpora.known()},
    "encoders": {name: classifier.encoder_hash(name) for name in classifier.carried()},
}))
"""


@pytest.fixture(scope="module")
def both(checkout, target, desk, tmp_path_factory):
    """What the checkout and the installed package say, and the folder of a request's outputs."""
    request = ["forget", "--model", desk / "model", "-p", "epochs=1"]
    for name in ("forget", "retain", "unseen"):
        request += [f"--{name}", desk / f"{name}.csv"]
    told = []
    for path in (checkout, target):
        out = tmp_path_factory.mktemp("out")
        calls = {"version": ["--version"], "same": SAME, "request": [*request, "--out", out]}
        said = copied.sequential_speakers(calls, cwd=target.parent, path=path)
        told.append(said | {"out": out})
    return told


def of_the_request(value):
    """A report without what differs from run to run."""
    if isinstance(value, dict):
        return {k: of_the_request(v) for k, v in value.items() if k not in _OF_THE_RUN}
    return [of_the_request(v) for v in value] if isinstance(value, list) else value


def test_a_request_is_fulfilled_alike(checkout, both):
    ours, theirs = (
        {file.name: file.read_bytes() for file in said["out"].iterdir()} for said in both
    )
    assert ours.keys() == theirs.keys()
    # but for seconds and memory, which these three name
    same = ours.keys() - {"report.json", "report.html", "README.md"}
    assert "model.safetensors" in same
    assert all(ours[name] == theirs[name] for name in same)
    reports = [json.loads(files["report.json"]) for files in (ours, theirs)]
    for report in reports:
        del report["sha256"]  # the seal of all of it
    assert of_the_request(reports[0]) == of_the_request(reports[1])
    head = copied.run("git", "rev-parse", "--short=12", "HEAD", cwd=checkout).strip()
    assert reports[1]["commit"] == head  # not that of the repository around it
    assert reports[1]["lock"] != "unknown" and reports[1]["version"] == reports[0]["version"]


def test_defaults_cards_and_encoders_are_the_same(both):
    ours, theirs = (said["same"] for said in both)
    assert ours == theirs
    assert set(json.loads(theirs)["encoders"]) >= {"nano-pretrained", "nano-english", "nano-arabic"}


def test_it_says_what_it_is(both):
    ours, theirs = (said["version"] for said in both)
    assert ours == theirs and "unknown" not in theirs


@pytest.mark.parametrize(
    "arguments", [["run", "1"], ["grid", "grid.yaml"], ["results"], ["rows", "a"]]
)
def test_what_needs_the_repository_says_so(target, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "speechunlearn.cli", *arguments], cwd=target.parent,
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )
    assert done.returncode == 2
    assert f"speechunlearn {arguments[0]}" in done.stderr
    assert "needs the project's repository" in done.stderr


def test_all_that_is_not_python_is_installed(checkout, target):
    """An empty target holds every file of the package that git knows, and no other."""
    known = copied.run("git", "ls-files", "speechunlearn", cwd=checkout).split()
    there = [
        path.relative_to(target).as_posix() for path in target.rglob("*")
        if path.is_file() and path.is_relative_to(target / "speechunlearn")
        and "__pycache__" not in path.parts
    ]
    assert sorted(there) == sorted([*known, "speechunlearn/built_from.json"])


def test_a_package_in_another_repository_has_no_commit(tmp_path):
    """Nor has one that lies beside another project's files, and was not built."""
    shutil.copytree(
        REPOSITORY / "speechunlearn", tmp_path / "speechunlearn",
        ignore=shutil.ignore_patterns("__pycache__", "encoders"),
    )
    code = "from speechunlearn import provenance as p; print(p.commit(), p.in_checkout())"
    for name in (None, "theirs", "speechunlearn"):
        if name is not None:
            (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
        copied.commit_all(tmp_path)
        commit, in_checkout = copied.python("-c", code, cwd=tmp_path, path=tmp_path).split()
        ours = name == "speechunlearn"
        assert in_checkout == str(ours) and (commit != "unknown") == ours
    inner = tmp_path / "vendored"
    inner.mkdir()
    shutil.move(tmp_path / "speechunlearn", inner)
    shutil.move(tmp_path / "pyproject.toml", inner)
    assert copied.python("-c", code, cwd=inner, path=inner).split()[0] == "unknown"
