"""What CI runs is what `make` runs; the workflows are valid, and keep what was made."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))


def jobs(path: Path) -> dict:
    return yaml.safe_load(path.read_text())["jobs"]


def commands(path: Path) -> list[str]:
    return [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]


def targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text()
    return set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())


def schema(*paths: Path) -> subprocess.CompletedProcess:
    """Check workflows as `make lint` does."""
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", "lint"], cwd=REPOSITORY, capture_output=True,
        text=True, check=True,
    ).stdout
    found = re.search(r"check-jsonschema (.*) \.github/workflows/\*\.yml", recipe)
    assert found, "make lint does not check the workflows"
    return subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), *found[1].split(), *paths],
        capture_output=True, text=True, check=False,
    )


def test_there_are_workflows_for_pushes_releases_and_gpus():
    assert [path.stem for path in WORKFLOWS] == ["gpu", "release", "tests"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_of_a_workflow_is_one_of_make(path):
    for command in commands(path):
        make, target, *values = command.split()
        assert make == "make" and target in targets(), command
        assert all(re.fullmatch(r"[A-Z]+=[\w/]+", value) for value in values), command


def test_what_is_run_and_installed_is_named_by_its_content():
    used = re.findall(r"uses: (\S+)", "".join(path.read_text() for path in WORKFLOWS))
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    # one commit of an action, in all workflows
    assert len(set(used)) == len({action.partition("@")[0] for action in used})
    lock = (REPOSITORY / "requirements.lock").read_text().replace("\\\n", "")
    packages = [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(packages) > 200
    for line in packages:
        assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}\b", line), line
    assert "--require-hashes --requirement requirements.lock" in (
        REPOSITORY / "Makefile"
    ).read_text()
    # beside hashes pip takes no folder: it comes after them
    conda = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    assert conda[-1] == {"pip": ["-r requirements.lock"]}
    assert "--no-deps" in (REPOSITORY / "postBuild").read_text()


def test_what_ci_runs_on_a_push_is_what_a_clean_clone_must_pass():
    script = (REPOSITORY / ".ci" / "run").read_text()
    listed = re.search(r"for target in (.*); do", script)[1].split()
    here, elsewhere, cluster = jobs(WORKFLOWS[-1]).values()
    assert [step["run"] for step in cluster["steps"] if "run" in step] == ["make test-slurm"]
    assert "arm" in elsewhere["runs-on"] and "arm" not in here["runs-on"]
    assert [step["run"] for step in elsewhere["steps"] if "run" in step] == ["make test"]
    pushed = [step["run"].split()[1] for step in here["steps"] if "run" in step]
    assert [t for t in pushed if t != "actionlint"] == [t for t in listed if t != "env"]


def test_a_gpu_run_keeps_what_was_made_even_when_it_failed():
    (_, run), (_, book) = jobs(REPOSITORY / ".github" / "workflows" / "gpu.yml").items()
    (kept,) = (step for step in run["steps"] if "upload-artifact" in step.get("uses", ""))
    assert kept["if"] == "always()" and kept["with"]["path"] == run["env"]["OUT"]
    (loaded,) = (step for step in book["steps"] if "download-artifact" in step.get("uses", ""))
    assert loaded["with"]["name"] == kept["with"]["name"]
    assert f"make html NOTEBOOKS={loaded['with']['path']}" in commands(
        REPOSITORY / ".github" / "workflows" / "gpu.yml"
    )


def test_the_workflows_are_valid_and_planted_faults_are_found(tmp_path):
    assert schema(*WORKFLOWS).returncode == 0
    text = WORKFLOWS[-1].read_text()
    planted = {"runs-on:": "runs_on:", "    steps:": "    stages:"}
    for i, (old, new) in enumerate(planted.items()):
        (tmp_path / f"{i}.yml").write_text(text.replace(old, new, 1))
    done = schema(tmp_path / "0.yml", tmp_path / "1.yml")
    assert done.returncode != 0 and "0.yml::" in done.stdout and "1.yml::" in done.stdout
