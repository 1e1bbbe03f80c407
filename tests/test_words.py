"""One meaning a word: retired words stay away; renaming the committed tables changed no value."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from speechunlearn import cli
from speechunlearn.lab import results

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "speechunlearn").rglob("*.py"))
PAGES = sorted(
    path for pattern in ("README.md", "CONTRIBUTING.md", "book/**/*.md", "notebooks/*.py")
    for path in ROOT.glob(pattern)
)

#: identifiers that are gone, and what is said instead
NAMES = {
    "Cell": "Evaluation: a cell is a notebook's or a table's",
    "of_cell": "of_evaluation",
    "Request": "UnlearningData (what a method may see); a deletion request is what a person sends",
    "deletion": "forget_set",
    "ranked_request": "ranked_forget_set",
    "forget_draw": "random_forget_set",
    "pairs_in_test": "runs_in_test: a run is a training seed and a forget set",
    "mean_over_pairs": "mean_over_runs",
    "strength": "hyperparameter",
    "strengths": "hyperparameters",
    "quick": "fast",
    "altered": "perturbed, or perturb",
    "moving": "only_trainable",
    "in_parts": "in_steps, of sequential unlearning",
    "REPEATED": "SEQUENTIAL",
    "in_a_row": "sequence_length",
    "in_sequence": "sequence_methods",
    "GAPS": "OPEN_CHOICES",
    "Figures": "Performance (of an attack)",
    "looks_at": "data_used",
    "assessing": "evaluate",
    "auditing": "audit",
    "recommended": "defaults",
    "say": "on_progress",
    "tell": "notify",
}

#: phrases that are gone from the pages and the command line's help, and what is said instead
PHRASES = {
    r"\b(?:forget|development|reported) draws?\b": "forget set",
    r"\bpairs? of (?:training )?seeds?\b": "run",
    r"\baltered cop(?:y|ies)\b": "perturbed copies; self-distillation",
    r"\bFine-tune on rest\b": "Fine-tune (a baseline; before unlearning, a model is the original)",
    r"\brequests in a row\b": "sequential unlearning",
    r"\blook(?:s|ed)? at the forget set alone\b": "forget-set-only",
    r"\bthat sees? more\b": "with access to retained data",
    r"\beach beside the others\b": "leave-one-out",
    r"\battack (?:clip by clip|by regression|by support vectors)\b": "the attack's name",
    r"(?<!in)\b(?:not )?like retrained models\b": "(in)distinguishable from retraining",
    r"\b(?:hangs?|hung) on\b": "depends on",
    r"\bis no number\b": "is not a number",
    r"\btold of progress\b": "progress callback",
    r"\bcounts as so many\b": "a weight that does not grow with N",
    r"--(?:quick|cells)\b": "--fast, --evaluations",
    r"\bstrengths?\b(?! of)": "hyperparameter",
}


def retired_names(code: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the word of each retired identifier."""
    for found in tokenize.generate_tokens(io.StringIO(code).readline):
        if found.type == tokenize.NAME and found.string in NAMES:
            yield found.start[0], found.string


def retired_phrases(text: str) -> Iterator[str]:
    """Yield each retired phrase, also one that goes over the end of a line."""
    flat = " ".join(re.sub(r"\n# ?", "\n", text).split())
    for pattern in PHRASES:
        for found in re.finditer(pattern, flat, re.IGNORECASE):
            yield f"{found[0]!r}: {PHRASES[pattern]}"


def helped(command: click.Command) -> Iterator[str]:
    """Yield what the command line says of its commands and options."""
    yield command.help or ""
    for parameter in command.params:
        yield f"{' '.join(parameter.opts)} {getattr(parameter, 'help', '') or ''}"
    for other in getattr(command, "commands", {}).values():
        yield from helped(other)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_has_no_retired_name(path):
    assert [
        f"line {line}: {word}: {NAMES[word]}" for line, word in retired_names(path.read_text())
    ] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_have_no_retired_phrase(path):
    assert list(retired_phrases(path.read_text())) == []


def test_the_command_line_has_no_retired_phrase():
    said = list(helped(typer.main.get_command(cli.app)))
    assert len(said) > 50
    assert [fault for text in said for fault in retired_phrases(text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_name_is_found(name):
    assert list(retired_names(f"value = 1\n{name} = value  # and a comment\n")) == [(2, name)]


@pytest.mark.parametrize(
    "text",
    ["The development\ndraw is kept.", "# of altered\n# copies there is one", "It hangs on N.",
     "`forget --quick`", "Each pair of seed and draw", "Its strength is tuned."],
)
def test_a_planted_phrase_is_found(text):
    assert list(retired_phrases(text))


# The tables. What follows turns them back into what they were called before, and compares.

COLUMNS = {
    "evaluation": "cell", "forget_id": "draw", "forget_kind": "request", "cluster": "unit",
    "relative_utility": "kept", "forget_only": "alone", "runs": "pairs",
}
VALUES = (
    ("Self-distillation to perturbed copies", "Altered copies"),
    ("before perturbed", "before altered"), ("perturbed copies: ", "altered copies: "),
    ("no distillation on concatenated clips", "answers to spliced clips not held"),
    ("no distillation on the copies", "answers to the copies not held"),
    ("in 5 sequential requests", "in 5 requests"), ("fast computation", "quick computation"),
)
FILES = {
    "evaluations.csv": "cells.csv", "component_ablation.csv": "parts.csv",
    "sequential.csv": "repeated.csv",
}
#: SHA-256 of the tables as they were before, by `digest`
BEFORE = "6a5b03d62ea0a2b4e689af2e4d8c93ff1b17f773fac2c28e9c27fe786bf16b0d"


def before(name: str, value: str) -> str:
    """Return what a value was called before, in the column of this (old) name."""
    if name in ("method", "same_as") and value == "perturbed":
        return "altered"
    if name == "variant" and value == "sequential":
        return "one after another"
    if name == "contender" and value == "fast":
        return "quick"
    if name == "hyperparameters" and '"fast"' in value:
        found = json.loads(value)
        return json.dumps({("quick" if k == "fast" else k): v for k, v in found.items()},
                          sort_keys=True)
    if name in ("method", "variant", "changed", "machine"):
        for new, old in VALUES:
            value = value.replace(new, old)
    return value


def old_name(row: dict[str, str]) -> str:
    """Return the id that a row had, which is a hash of its values by the names of their columns."""
    key = [COLUMNS.get(name, name) for name in results.KEY]
    typed = {
        name: int(row[name]) if name in ("n_forget", "seed")
        else (float(row[name]) if row[name] else None) if name == "tau" else row[name]
        for name in key
    }
    text = json.dumps(typed | {"hash": row["corpus_hash"]}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_before(path: Path, ids: dict[str, str]) -> Iterator[bytes]:
    """Yield the rows of a CSV as they were; note the old id of each new one."""
    header, *rows = csv.reader(io.StringIO(path.read_text()))
    names = [COLUMNS.get(name, name) for name in header]
    yield "\t".join(names).encode()
    for values in rows:
        row = {n: before(n, v) for n, v in zip(names, values, strict=True)}
        if "cell" in row:
            ids[row["cell"]] = row["cell"] = old_name(row)
        yield "\t".join(row.values()).encode()


def columns_before(path: Path, ids: dict[str, str]) -> Iterator[bytes]:
    """Yield the columns of predictions as they were."""
    table = pq.read_table(path)
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        yield f"{COLUMNS.get(name, name)} {column.type}".encode()
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            yield column.to_numpy(zero_copy_only=False).tobytes()
            continue
        coded = column.dictionary_encode()
        words = coded.dictionary.to_pylist()
        yield "\t".join(str(ids[w] if name == "evaluation" else w) for w in words).encode()
        yield coded.indices.to_numpy(zero_copy_only=False).astype(np.int64).tobytes()


#: tables that were made after the renaming, or computed anew from the others since (which
#: test_leaderboard_sentences.py does once more)
SINCE = {
    "attribute.csv", "protection.csv", "protection_mos.csv", "protect_files.csv", "judged.csv",
    "judged-few.csv",
    "requests.csv", "large_model.csv", "faults.csv", "scores.csv", "ranking.csv",
    "component_ablation.csv", "sequential.csv",
    "architectures.csv", "fixmatch.csv", "relearning.csv",
}


def digest(data: Path) -> str:
    """Return a digest of every committed table, in its old words."""
    found = hashlib.sha256()
    folders = [data / "benchmarks", data / "tuning", *sorted((data / "results").glob("cpu-*")),
               *sorted((data / "leaderboard").glob("cpu-*"))]
    for folder in folders:
        ids: dict[str, str] = {}
        files = sorted(folder.glob("*.csv"), key=lambda path: FILES.get(path.name, path.name))
        files = [path for path in files if path.name not in SINCE]
        for path in files:
            found.update(f"{folder.name}/{FILES.get(path.name, path.name)}\n".encode())
            for part in as_before(path, ids):
                found.update(part + b"\n")
        for path in folder.glob("*.parquet"):
            for part in columns_before(path, ids):
                found.update(part + b"\n")
    return found.hexdigest()


def test_renaming_the_tables_changed_nothing_else():
    """Names of columns, of the method of our own, and of what is a hash of these; no value."""
    assert digest(ROOT / "data") == BEFORE


def test_a_changed_value_has_another_digest(tmp_path):
    for folder in ("benchmarks", "tuning"):
        (tmp_path / folder).mkdir()
    text = "method,forget_id,gap\nperturbed,development,0.1\n"
    (tmp_path / "tuning" / "a.csv").write_text(text)
    first = digest(tmp_path)
    (tmp_path / "tuning" / "a.csv").write_text(text.replace("0.1", "0.2"))
    assert digest(tmp_path) != first


def test_each_id_is_the_one_that_the_package_gives():
    """Whoever runs an evaluation again replaces its row."""
    for path in sorted((ROOT / "data").glob("*/*/evaluations.csv")):
        for row in csv.DictReader(io.StringIO(path.read_text())):
            record = row | {
                "n_forget": int(row["n_forget"]), "seed": int(row["seed"]),
                "tau": float(row["tau"]) if row["tau"] else None,
            }
            assert results._name(record) == row["evaluation"]
