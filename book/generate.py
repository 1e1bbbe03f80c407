"""Pages and figures made from what the repository holds: registries, cards, results, notebooks.

Nothing that stands in a registry, a card or a result is typed again in a page. This writes the
snippets that the pages include, the figure and the table of the landing page, the numbers in its
prose, the status of the notebooks, a page for every module, and captions beside the figures of
the notebooks. It runs without torch: see `torchless`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torchless
import yaml

ROOT = Path(__file__).resolve().parent.parent

sys.path.append(str(ROOT))  # of benchmarks
torchless.install()

import matplotlib  # noqa: E402

matplotlib.use("agg")

import boards  # noqa: E402
import folded  # noqa: E402
import landing  # noqa: E402
import measured  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pooled  # noqa: E402

from benchmarks import judged  # noqa: E402
from benchmarks.summary import summary  # noqa: E402
from speechunlearn import corpora, methods, provenance  # noqa: E402
from speechunlearn.chapters import tables  # noqa: E402
from speechunlearn.lab import (  # noqa: E402
    committed_tables,
    experiments,
    leaderboard,
    results,
    sentences,
)

PACKAGE = ROOT / "speechunlearn"

#: the committed run that the landing page shows
SHOWN = ("cpu", "ravdess")
SETTING = "validation"

#: turns of ``benchmarks/request.py``, and what its contenders are called
SPEED = ROOT / "data" / "benchmarks" / "request.csv"
#: requests of ``benchmarks/requests.py``
REQUESTS = ROOT / "data" / "benchmarks" / "requests.csv"
FAULTS = ROOT / "data" / "benchmarks" / "faults.csv"
#: what the models of ``benchmarks/pool.py`` say of each set
POOL = ROOT / "data" / "pools" / "cpu-ravdess-nano-pretrained" / "summary.csv"
CONTENDERS = {
    "fast": "this package, `--fast`",
    "exact": "this package, as it is by default",
    "torchattacks": "torchattacks and a plain loop",
    "toolbox": "adversarial-robustness-toolbox and a plain loop",
}

NEEDS = {
    "forget": "the forget set",
    "retain": "the retain set",
    "validation": "clips not trained on",
    "statistic": "a statistic of the training set",
}


def everything(source: Path, notebooks: list[Path]) -> dict[str, str]:
    """Write all that is generated below ``source``.

    Args:
        source: folder of the staged book
        notebooks: those that it shows; they are of a run where they are not the stored ones

    Returns:
        the numbers that stand in prose, by the name of their substitution

    """
    registry_pages(source)
    api_pages(source / "book" / "api", source / "generated" / "api.md")
    status_page(source / "generated" / "status.md", notebooks)
    speed_page(source / "generated" / "speed.md")
    requests_page(source / "generated" / "requests.md")
    pool_page(source / "generated" / "pool.md")
    pooled.pages(source / "generated" / "pools.md", [method.name for method in own_methods()])
    faults_page(source / "generated" / "faults.md")
    measured.pages(source / "book" / "metrics", source / "generated" / "metrics")
    request_page(source / "generated" / "request.md", notebooks)
    (source / "generated" / "citing.md").write_text(citing())
    boards.save(source / "_static" / "social.png", dpi=200)
    for notebook in sorted((source / "notebooks").glob("*.ipynb")):
        caption(notebook)
        keep_intervals(notebook)
        folded.arrange(notebook)
    return landing_page(source / "generated")


def registry_pages(source: Path) -> None:
    """Write the facts of corpora and methods, and the pages that nobody has written for them."""
    for folder in ("corpora", "methods"):
        (source / "generated" / folder).mkdir(parents=True)
    corpus_pages(source / "generated")
    method_pages(source / "generated")
    for corpus in own_corpora():
        page_without_notes(source, "corpora", f"corpus-{corpus.name}", corpus.name, corpus.name)
    for method in own_methods():
        page_without_notes(source, "methods", f"method-{method.name}", method.name, method.title)


# Tables


def table(
    header: list[str], rows: list[list[object]], title: str = "", name: str = "", kind: str = "",
) -> str:
    """Return a table in Markdown; with a title it is numbered.

    Args:
        header: a heading a column
        rows: the cells
        title: what stands above it
        name: of its place
        kind: class of the table: ``filtered`` gets menus, see `_static/sortable.js`

    """
    text = tables.markdown(header, rows)
    if not title:
        return text + "\n"
    options = f":name: {name}\n" + (f":class: {kind}\n" if kind else "")
    # colons: between backticks, a title could hold none
    return f"::::{{table}} {title}\n{options}\n{text}\n::::\n"


def narrower(header: list[str], rows: list[list[object]], title: str, name: str) -> str:
    """Return a numbered table, and in words before it the columns that hold one value only."""
    same = [i for i in range(1, len(header)) if len({str(row[i]) for row in rows}) == 1]
    words = "; ".join(f"{header[i].lower()}: {rows[0][i]}" for i in same)
    kept = [i for i in range(len(header)) if i not in same]
    text = table([header[i] for i in kept], [[row[i] for i in kept] for row in rows], title, name)
    return (f"In all rows: {words}.\n\n" if words else "") + text


def source_link(path: Path) -> str:
    """Return a module's file, linked where the repository has an address, and its API page."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    relative = path.relative_to(ROOT)
    file = f"`{relative.as_posix()}`"
    if repository["url"]:
        file = f"[{file}]({repository['url']}/blob/{repository['branch']}/{relative.as_posix()})"
    module = ".".join(relative.with_suffix("").parts)
    return f"{file}, {{py:mod}}`in the API <{module}>`"


def shown_file(path: Path) -> str:
    """Return a whole file, folded."""
    relative = path.relative_to(ROOT).as_posix()
    return (
        f"::::{{dropdown}} The whole of `{relative}`\n"
        f"```{{literalinclude}} /{relative}\n:language: python\n```\n::::\n"
    )


def linked(text: str) -> str:
    """Return text with its web addresses as links."""
    return re.sub(r"https?://[^\s;,]+[^\s;,.)]", lambda m: f"<{m[0]}>", text)


def page_without_notes(source: Path, folder: str, label: str, name: str, title: str) -> None:
    """Write a page that holds what is generated alone, where nobody has written one."""
    page = source / "book" / folder / f"{name}.md"
    if page.is_file():
        return
    parts = [name] + ([f"{name}-file"] if folder == "methods" else [])
    page.write_text(
        f"({label})=\n# {title}\n"
        + "".join(f"\n```{{include}} ../../generated/{folder}/{part}.md\n```\n" for part in parts)
    )


# Corpora


def own_corpora() -> list[corpora.Corpus]:
    """Return the corpora of this package: another's readers are no part of its book."""
    return [c for c in corpora.known().values() if _file_of(c) is not None]


def corpus_pages(folder: Path) -> None:
    """Write the facts of each corpus, from its reader and its card."""
    rows = []
    for corpus in own_corpora():
        name, facts, file = corpus.name, corpora.card(corpus.name), _file_of(corpus)
        assert file is not None
        rows.append(
            [f"{{ref}}`{name} <corpus-{name}>`", corpus.task, ", ".join(facts["languages"]),
             corpus.licence]
        )
        labels = (
            "whatever its folders or its table say" if corpus.labels is None
            else f"{len(corpus.labels)}: " + ", ".join(f"`{label}`" for label in corpus.labels)
        )
        loadable = "no"
        if corpus.archives:
            versions = ", ".join(archive.version for archive in corpus.archives)
            loadable = f"`speechunlearn download {name} --root FOLDER` (versions: {versions})"
        elif corpus.default_root is not None or corpus.table is not None:
            loadable = "not needed"
        made = [["Made with", facts["made_with"]]] if "made_with" in facts else []
        lines = [
            ["Licence", corpus.licence],
            ["How to get it", linked(corpus.how_to_get)],
            ["Download by this package", loadable],
            ["Languages", ", ".join(facts["languages"])],
            ["What the labels are", corpus.task],
            ["Labels", labels],
            ["Speakers", facts["speakers"]],
            ["Clips", facts["clips"]],
            ["Split", facts["split"]],
            *made,
            ["Citation", linked(facts["citation"])],
            ["Reader", source_link(file)],
        ]
        text = f"{corpus.title}.\n\n" + table(["", f"`{name}`"], lines)
        text += "\nIt is **not**\n\n" + "".join(f"- {line}\n" for line in facts["is_not"])
        (folder / "corpora" / f"{name}.md").write_text(text)
    (folder / "corpora.md").write_text(
        table(["Name", "Task", "Language", "Licence"], rows, "The corpora.", "corpora-table")
    )


def _file_of(corpus: corpora.Corpus) -> Path | None:
    """Return the file of this package that defines a corpus."""
    for path in sorted((PACKAGE / "corpora").glob("*.py")):
        module = sys.modules.get(f"speechunlearn.corpora.{path.stem}")
        if module is not None and any(value is corpus for value in vars(module).values()):
            return path
    return None


# Methods


def own_methods() -> list[methods.Method]:
    """Return the methods of this package: another's are no part of its book."""
    return [
        method for method in methods.METHODS.values()
        if method.run.__module__.startswith("speechunlearn.")
    ]


def method_pages(folder: Path) -> None:
    """Write the facts of each method, from the registry, its file and the leaderboards."""
    when = yaml.safe_load((ROOT / "book" / "methods.yml").read_text())
    rows: list[list[object]] = []
    for method in own_methods():
        name, path = method.name, PACKAGE / "methods" / f"{method.name}.py"
        needs = ", ".join(words for need, words in NEEDS.items() if need in method.needs)
        told = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
        summary, _, rest = told.partition("\n\n")
        source = rest.removeprefix("Source:").strip().replace("``", "`")
        dated = re.search(r"\b(?:19|20)\d\d\b", source)
        year = dated[0] if dated else "ours" if source.startswith("ours") else None
        emotions = boards.committed()[0]
        rows.append([
            f"{{ref}}`{method.title} <method-{name}>`: {_said(summary)}",
            year, ", ".join(sorted(method.needs)),
            emotions.cost(name) if name in emotions.ranking.index else None,
            *(boards.place(board, name) for board in boards.committed()),
        ])
        lines = [
            ["Name in commands", f"`{name}`"],
            ["Year", year],
            ["Data used", needs],
            [
                "Hyperparameter tuned",
                f"`{method.hyperparameter}`" if method.hyperparameter else f"none: {method.untuned}"
            ],
            ["Source", linked(source[:1].upper() + source[1:])],
            ["File", source_link(path)],
        ]
        text = f"{summary}\n\n"
        if name in when:
            text += f"## When to use it\n\n{when[name].strip()}\n\n"
        text += table(["", method.title], lines)
        text += f"\n## How to call it\n\n{how_to_call(method)}\n"
        fields = dataclasses.fields(method.parameters)
        if fields:
            meaning = _meanings(method.parameters)
            text += "\n`-p` and the profiles set other values of these:\n\n" + table(
                ["Hyperparameter", "Default", "What it is"],
                [[f"`{f.name}`", f"`{f.default!r}`", meaning.get(f.name, "")] for f in fields],
            )
        (folder / "methods" / f"{name}.md").write_text(text)
        standing = boards.rows_of(name)
        standing += (
            "\nProfile `cpu`, means over runs; {doc}`all rows <../leaderboard>`.\n" if standing
            else "It is on no committed leaderboard.\n"
        )
        (folder / "methods" / f"{name}-file.md").write_text(f"{standing}\n{shown_file(path)}")
    header = ["Method", "Year", "Data used", "Cost, × retraining",
              *(f"{board.words}: average gap (place)" for board in boards.committed())]
    rows.sort(key=lambda row: [row[4] or "", row[0]])  # on the first corpus, nearest first
    (folder / "methods.md").write_text(
        table(header, rows, "The methods.", "methods-table", "filtered")
    )


def _said(summary: str) -> str:
    """Return what the first sentence of a docstring says after the method's name."""
    words = summary.replace("``", "`").replace("\n", " ").partition(": ")
    return words[2] or words[0]


def how_to_call(method: methods.Method) -> str:
    """Return the command that carries out a request by a method, or the chapter that runs it."""
    if method.trains_anew or "validation" in method.needs:
        why = (
            "it trains anew, by a recipe that a checkpoint does not tell" if method.trains_anew
            else "it needs clips for validation, which a request does not have"
        )
        return (
            f"Not in a deletion request: {why}. In the leaderboard's chapter:\n\n"
            f"```sh\nspeechunlearn run 10 --profile smoke -p methods={method.name}\n```\n"
        )
    retain = " --retain retain.csv" if method.needs - {"forget"} else ""
    return (
        f"```sh\nspeechunlearn forget --model my-model --forget forget.csv{retain} \\\n"
        f"    --method {method.name} --out unlearned\n```\n"
    )


def _meanings(parameters: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and its bases say of its fields."""
    found: dict[str, str] = {}
    for base in reversed(parameters.__mro__):
        lines = inspect.cleandoc(base.__doc__ or "").splitlines()
        name = ""
        for line in lines[lines.index("Args:") + 1 :] if "Args:" in lines else []:
            start = re.match(r" {4}(\w+): (.*)", line)
            if start:
                name = start[1]
                found[name] = start[2]
            elif name and line.startswith(" " * 8):
                found[name] += " " + line.strip()
            else:
                break
    return {name: text.replace("``", "`") for name, text in found.items()}


# API


def modules() -> Iterator[str]:
    """Yield the modules of the package: each has a page."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != PACKAGE.name:
            yield name


#: lines of source that one page documents, about: twelve screens of a desk
PAGE_LINES = 330


def api_pages(folder: Path, overview: Path) -> None:
    """Write a page for every module, whose docstrings are put in by Sphinx, and a list of them.

    What a long module defines goes on on a second page.
    """
    folder.mkdir(parents=True)
    rows: list[list[object]] = []
    for name in modules():
        path = ROOT.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(file.read_text())
        said = ast.get_docstring(tree) or ""
        first, *more = split(tree)
        rows.append([f"{{doc}}`{name.removeprefix('speechunlearn.')} <api/{name}>`",
                     said.partition("\n")[0]])
        left_out = ", ".join(node.name for part in more for node in part)
        text = f".. automodule:: {name}\n" + f"   :exclude-members: {left_out}\n" * bool(more)
        (folder / f"{name}.md").write_text(f"# {name}\n\n```{{eval-rst}}\n{text}```\n")
        for number, part in enumerate(more, start=2):
            text = f".. currentmodule:: {name}\n"
            for node in part:
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                text += f"\n.. auto{kind}:: {node.name}\n"
            (folder / f"{name}-{number}.md").write_text(
                f"# {name}, part {number}\n\n```{{eval-rst}}\n{text}```\n"
            )
    overview.write_text(table(["Module", "What it is"], rows, "The modules.", "api-modules"))


def split(tree: ast.Module) -> list[list[ast.FunctionDef | ast.ClassDef]]:
    """Return the public functions and classes of a module, those of a page together."""
    parts: list[list[ast.FunctionDef | ast.ClassDef]] = [[]]
    lines = 0
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        length = (node.end_lineno or 0) - node.lineno
        if parts[-1] and lines + length > PAGE_LINES:
            parts.append([])
            lines = 0
        parts[-1].append(node)
        lines += length
    return parts


# Captions


def caption(notebook: Path) -> None:
    """Put captions and alternative texts beside the figures of a notebook.

    A caption holds for all outputs of a cell. So a cell that shows a figure and something else is
    parted: its outputs keep their order, and each figure is alone in a cell.

    Which figure it is says the function of `speechunlearn.chapters.figures` that draws it, or a tag
    of the cell: ``figure-`` and the name.

    Raises:
        ValueError: a figure that has no text

    """
    texts = yaml.safe_load((ROOT / "book" / "captions.yml").read_text())
    content = json.loads(notebook.read_text())
    cells: list[dict[str, Any]] = []
    names: Counter[str] = Counter()
    for number, cell in enumerate(content["cells"]):
        outputs = cell.get("outputs", [])
        if not any(is_image(output) for output in outputs):
            cells.append(cell)
            continue
        drawn = re.findall(r"\bfigures\.(\w+)\(", "".join(cell["source"]))
        tags = cell["metadata"].get("tags", [])
        drawn += [tag.removeprefix("figure-") for tag in tags if tag.startswith("figure-")]
        known = [name for name in drawn if name in texts]
        if not known:
            raise ValueError(f"{notebook.name}, cell {number}: no text in captions.yml: {drawn}")
        text = texts[known[-1]]
        parts: list[list[dict[str, Any]]] = []
        for output in outputs:
            if not parts or is_image(output) or is_image(parts[-1][-1]):
                parts.append([output])
            else:
                parts[-1].append(output)
        for index, part in enumerate(parts):
            if index == 0:
                own_cell = cell
                cell["outputs"] = part
            else:
                own_cell = {
                    "cell_type": "code", "execution_count": None, "id": f"part-{number}-{index}",
                    # a cell without a source is not rendered, whatever it holds
                    "metadata": {"tags": ["remove-input"]}, "source": "# more of the cell above",
                    "outputs": part,
                }
            cells.append(own_cell)
            if is_image(part[0]):
                name = f"{notebook.stem}-{known[-1].replace('_', '-')}"
                names[name] += 1
                own_cell["metadata"]["mystnb"] = {
                    "figure": {
                        "caption": text["caption"].strip(),
                        "name": name if names[name] == 1 else f"{name}-{names[name]}",
                    },
                    "image": {"alt": " ".join(text["alt"].split())},
                }
    notebook.write_text(json.dumps(content | {"cells": cells}))


def is_image(output: dict[str, Any]) -> bool:
    return "image/png" in output.get("data", {})


def keep_intervals(notebook: Path) -> None:
    """Let no line of a notebook's tables end within an interval or a number of runs."""
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                html = "".join(output["data"]["text/html"])
                html = re.sub(r"\[(-?[\d.]+), (-?[\d.]+)\]", r"[\1,&nbsp;\2]", html)
                output["data"]["text/html"] = re.sub(r"\bn = (\d+)", r"n&nbsp;=&nbsp;\1", html)
    notebook.write_text(json.dumps(content))


# Status


def status_page(target: Path, notebooks: list[Path]) -> None:
    """Write what made each notebook and each committed result, and what built the book."""
    rows = []
    executed = [path for path in notebooks if path.parent != ROOT / "notebooks"]
    for path in notebooks:
        content = json.loads(path.read_text())
        said = made_by(content)
        run = content["metadata"].get("papermill", {})
        seconds = run.get("duration")
        if path in executed:
            commit = provenance.commit()
        else:
            commit = _git("log", "-1", "--format=%h", "--", path)
        rows.append(
            [
                f"{{doc}}`../notebooks/{path.stem}`",
                said["profile"],
                said["corpus"].partition(":")[0],
                said["encoder"],
                "stored outputs" if seconds is None else _duration(seconds),
                said["machine"],
                said["versions"],
                f"`{commit or 'unknown'}`",
            ]
        )
    header = ["Chapter", "Profile", "Corpus", "Encoder", "Run time", "Machine", "Versions",
              "Commit"]
    if executed:
        words = (
            "The notebooks of these pages were **run for this build**, by papermill, which kept "
            "the time. What one of them had made, the next ones found: a chapter that comes late "
            "looks faster than it is alone. The commit is that of the package."
        )
        if len(executed) < len(notebooks):
            words += " A chapter without a run time was not run: it is the **stored** one."
    else:
        words = (
            "The notebooks of these pages are the **stored** ones: nothing was run for this build, "
            "and their run time was not kept. `make book` runs them, and then it stands here. The "
            "commit is the last one that touched the notebook."
        )
    text = f"{words}\n\n"
    text += narrower(header, rows, "The notebooks of these pages.", "status-notebooks") + "\n"
    rows = []
    for folder in sorted(path.parent for path in results.COMMITTED.glob("*/evaluations.csv")):
        run = results.Results.read(folder)
        cells, models = run.evaluations, run.models

        def unique(column: str, cells: pd.DataFrame = cells) -> str:
            return "; ".join(sorted({str(value) for value in cells[column].dropna()}))

        rows.append(
            [
                f"`{folder.name}`", unique("profile"), unique("corpus"), unique("encoder"),
                len(models), f"{models['seconds'].sum() / 3600:.1f} h",
                ", ".join(f"`{c}`" for c in unique("commit").split("; ")), unique("machine"),
            ]
        )
    header = ["Folder", "Profile", "Corpus", "Encoder", "Models", "Time", "Commits",
              "Machine and versions"]
    text += (
        "\n## Committed results\n\nThese are shown beside a page's own, under *On real speech*. "
        "The time is the sum over the models; one that is scored for several forget sets counts "
        "once.\n\n"
    )
    text += narrower(header, rows, "Results in `data/results/`.", "status-results")
    header = ["File", "Rows", "Time", "Commits", "Made by"]
    text += (
        "\n## Other committed tables\n\nLeaderboards (a row an evaluation; in the time a model "
        "that is scored on several sets counts once; the tables beside it are computed from it), "
        "pools (a row a model), trials and benchmarks. A dash: the file does not say. `--help` "
        "lists the options of a benchmark. `speechunlearn rows TABLE COLUMN=VALUE` prints the rows "
        "of any table below `data/`, with the command.\n\n"
    )
    text += table(header, other_tables(), "Other tables in `data/`.", "status-tables")
    packages = ("jupyter-book", "sphinx", "myst-nb", "pandas", "matplotlib")
    built = ", ".join(f"{name} {version(name)}" for name in packages)
    text += (
        f"\n## This build\n\nPython {platform.python_version()}, {built}; commit "
        f"`{_git('rev-parse', '--short=12', 'HEAD') or 'unknown'}`. No deep-learning library was "
        "loaded to build it.\n"
    )
    target.write_text(text)


def other_tables() -> list[list[object]]:
    """Return a row for each committed table that is none of `data/results`, and for each pool."""
    rows: list[list[object]] = []

    def add(file: Path, made: pd.DataFrame, count: int) -> None:
        place = file.relative_to(committed_tables.DATA)
        command = committed_tables.command(place.with_suffix("").as_posix())
        timed, commits = "seconds" in made and "machine" in made, made.get("commit", pd.Series())
        rows.append([
            f"`{place.as_posix()}`", count,
            _duration(float(made["seconds"].sum())) if timed else "–",
            ", ".join(f"`{c}`" for c in sorted(set(commits.dropna()))) or "–", f"`{command}`",
        ])

    data = committed_tables.DATA
    for file in sorted(data.glob("leaderboard/*/evaluations.csv")):
        run = results.Results.read(file.parent)
        add(file.parent, run.models, len(run.evaluations))
    for folder in sorted(path.parent for path in data.glob("pools/*/design.json")):
        models = [json.loads(str(np.load(file)["about"])) for file in folder.glob("model-*.npz")]
        add(folder, pd.DataFrame(models), len(models))
    for kind in ("tuning", "pools", "benchmarks", "table1"):
        for file in sorted((data / kind).rglob("*.csv")):
            content = pd.read_csv(file, dtype={"commit": str})
            add(file, content, len(content))
    return rows


def made_by(notebook: dict[str, Any]) -> dict[str, str]:
    """Return what a notebook says of itself: profile, corpus, encoder, machine, versions."""
    pattern = re.compile(
        r"Profile (?P<profile>[\w-]+); corpus: (?P<corpus>.*?); encoder (?P<encoder>.*?); "
        r"runs .*?; machine: (?P<machine>.*?), (?P<versions>Python .*)\."
    )
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            found = pattern.search(" ".join("".join(output.get("text", "")).split()))
            if found:
                return found.groupdict()
    return dict.fromkeys(("profile", "corpus", "encoder", "machine", "versions"), "not said")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _git(*arguments: str | os.PathLike[str]) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


# Speed


def speed_page(target: Path) -> None:
    """Write the table of the committed turns of ``benchmarks/request.py``, a part a setting."""
    turns = pd.read_csv(SPEED)
    setting = ["corpus", "encoder", "n", "copies", "steps", "epochs", "threads", "device"]
    parts = []
    for values, own in turns.groupby(setting, sort=False):
        about = dict(zip(setting, values, strict=True))
        wide = own.pivot(index="round", columns="contender")
        rows = []
        for contender, title in CONTENDERS.items():
            if contender not in own["contender"].unique():
                continue
            row = [title, f"{wide['seconds', contender].median():.0f}"]
            for clock in ("seconds", "attack_seconds", "processor_seconds"):
                ratio = wide[clock, contender] / wide[clock, "fast"]
                span = f"{ratio.median():.2f}"
                if len(ratio) > 1:
                    span += f" ({ratio.min():.2f} to {ratio.max():.2f})"
                row.append("1" if contender == "fast" else span)
            rows.append(row)
        (machine_,) = own["machine"].unique()
        count = own["round"].nunique()
        parts.append(
            f"{about['n']} clips of {about['corpus']}, {own['mean_seconds'].iloc[0]:.1f} s on "
            f"average, $M$ = {about['copies']}, $P$ = {about['steps']}, epochs: {about['epochs']}, "
            f"encoder `{about['encoder']}`, {count} {'round' if count == 1 else 'rounds'}; "
            f"{machine_}; commit {own['commit'].iloc[0]}:\n\n"
            + table(["", "seconds", "times fast's", "the attack alone", "processor time"], rows)
        )
    target.write_text("\n".join(parts))


# Requests


def requests_page(target: Path) -> None:
    """Write what became of the committed requests of ``benchmarks/requests.py`` and of a pool."""
    rows = pd.read_csv(REQUESTS, dtype={"kind": str})
    made = rows[rows["who"] == "unlearned"]
    (machine,) = made["machine"].unique()
    commits = ", ".join(sorted(made["commit"].unique()))
    target.write_text(_closed(rows) + f"\n\n{machine}; commit {commits}.\n")
    of_pool = judged.requests_of(POOL.parent, "perturbed")
    target.with_name("requests-pool.md").write_text(
        _closed(of_pool) if len(of_pool) else "*Not run.*\n"
    )
    levels = pd.read_csv(POOL.with_name("levels.csv"))
    levels = levels[levels["set"].isin(set(of_pool["set"]))]  # of sizes that are whole
    target.with_name("requests-levels.md").write_text(_guessed(levels))


def _guessed(levels: pd.DataFrame) -> str:
    """Return how far a guess of retrained models' loss and a descent went, by size."""
    means = ["original", "level", "reached", "bar"]
    rows = []
    for clips, group in levels.groupby("clips"):
        before, guess, after, bar = group[means].mean()
        shares = (guess - before) / (bar - before), (after - before) / (guess - before)
        rows.append([str(clips), str(len(group)), *(
            f"{value:.2f}" for value in (before, guess, after, bar, *shares)
        )])  # fmt: skip
    head = ["clips", "requests", "the original", "guessed", "reached", "retrained",
            "of the gap, guessed", "of the guess, reached"]  # fmt: skip
    return table(head, rows)


def _closed(rows: pd.DataFrame) -> str:
    """Return the table of `benchmarks.summary.summary`."""
    shown = [
        [row["kind"], str(row["requests"])]
        + [f"{row[name]}; beyond: {row[f'{name} beyond']}" for name in ("loss", "uar", "auc")]
        + [row["utility"]] for row in summary(rows).to_dict("records")
    ]
    shown = [[text.replace("-inf", "−∞") for text in row] for row in shown]
    head = ["clips", "requests", "mean forget loss", "forget UAR", "attack on the loss, AUC",
            "utility relative to the original"]
    return table(head, shown)


def faults_page(target: Path) -> None:
    """Write the table of the committed faults of ``benchmarks/faults.py``."""
    rows = pd.read_csv(FAULTS)
    words = {"kill": "a kill", "bit": "a flipped bit", "cut": "a power cut", "race": "a race"}
    counts = ["tried", "same result", "refused with words", "wrong"]
    rows = rows.assign(fault=rows["fault"].map(words))
    head = ["Fault", "Work", *(name.capitalize() for name in counts)]
    shown = rows[["fault", "work", *counts]].astype(object).to_numpy().tolist()
    (machine,), (commit,) = rows["machine"].unique(), rows["commit"].unique()
    target.write_text(tables.markdown(head, shown) + f"\n\n{machine}; commit {commit}.\n")


def pool_page(target: Path) -> None:
    """Write the table of the committed pool, two decimals."""
    rows = pd.read_csv(POOL).drop(columns=["originals", "references"])  # 16 of either
    rows = rows.rename(columns=lambda name: name.replace("sd of the loss, references", "sd"))
    shown = [
        [str(value) if isinstance(value, (str, int)) else f"{value:.2f}" for value in row]
        for row in rows.astype(object).itertuples(index=False)
    ]
    target.write_text(table(list(rows), shown) + "\n")


# Landing page


#: the paper's claims: words, the claims of `experiments.claims` that test them, and the chapter
CLAIMS = (
    ("**Forgetting.** UAR on the forget set falls below chance.", "forgetting: "),
    ("**Retention.** UAR on unseen speakers stays adequate (here: it loses less than 0.10).",
     "retention: "),
    ("**Adversarial copies help**: both methods beat random labels on unseen speakers.",
     " has a higher UAR than Ran. Lab."),
    ("**Elastic weights help** further: Adv. + Ela. beats Adv. on unseen speakers.",
     "elastic weights help"),
    ("**More to forget is harder**: UAR on unseen speakers falls from N = 10 to 100.",
     " falls with N"),
)


#: committed runs of the other tasks: in words, corpus, task, and where
MORE = (
    ("Arabic words", "arabic_speech_commands", "keyword", "07_keyword_spotting"),
    ("English words", "speech_commands_10", "keyword", "07_keyword_spotting"),
    ("Arabic speakers", "arabic_speech_commands", "speaker", "08_speaker_identification"),
)


def landing_page(folder: Path) -> dict[str, str]:
    """Write the figures, tables and sentences of results; return the numbers in prose.

    README.md has ``in_short.md``, too.
    """
    committed = results.committed(*SHOWN)
    shown = committed.reported().select(setting=SETTING, forget_kind="clips")
    chance, n_speakers = 1 / committed.n_labels, _speakers(shown)
    numbers = results.table_of_methods(shown, SETTING, generator=np.random.default_rng(0))
    caption = landing.caption(shown.evaluations, numbers, n_speakers, chance)
    said = sentences.of_methods(shown.evaluations, numbers, chance)
    (folder / "sentences.md").write_text("".join(f"- {sentence}\n" for sentence in said))
    matplotlib.rcParams["svg.hashsalt"] = "book"
    landing.over_n(numbers, chance).savefig(
        folder / "result.svg", metadata={"Date": None}, bbox_inches="tight"
    )
    (folder / "result-figure.md").write_text(shown_figure(caption, said))
    verdicts = experiments.claims(
        shown, SETTING, chance=chance, generator=np.random.default_rng(0)
    )
    decided = landing.of_claims(shown.evaluations, verdicts, n_speakers)
    (folder / "claims.md").write_text(
        f"{claims(shown, numbers, verdicts, committed)}\n{decided}\n\n{experiments.RULE}\n"
    )
    (folder / "more.md").write_text(
        table(["Question", "What we find", "Where"], words_and_voices(),
              "Keyword spotting and speaker identification, profile `cpu`.", "more-table")
    )
    value = numbers.set_index(["method", "n_forget", "split"])["value"]
    sizes = sorted(int(n) for n in numbers["n_forget"].unique())
    rows = [
        [title, *(f"{value[m, n, 'forget']:.2f} / {value[m, n, 'unseen']:.2f}" for n in sizes)]
        for m, title in results.TITLES.items() if (m, sizes[0], "forget") in value
    ]
    header = ["UAR on the forget set / on unseen speakers", *(f"N = {n}" for n in sizes)]
    (folder / "result.md").write_text(table(header, rows))
    boards.save(folder / "leaderboard.svg")
    (folder / "in_short.md").write_text(boards.in_short())
    (folder / "found.md").write_text(boards.shown())
    (folder / "leaderboard.md").write_text(
        table(*boards.long_table(), "The committed leaderboards.", "leaderboard-table", "filtered")
    )
    (folder / "leaderboards_said.md").write_text(boards.sentences())
    return {"provenance": landing.provenance(shown.evaluations)}


def shown_figure(caption: str, said: list[str]) -> str:
    """Return the figure of our Table 1, whose alternative text says what its sentences say."""
    plain = " ".join(said).replace("*", "").replace('"', "'")
    return (
        "```{figure} ../generated/result.svg\n:name: result\n:width: 600px\n"
        ':alt: "Two line charts, one above the other, of UAR over the number of clips to forget: '
        "on the forget set and on unseen speakers. One line with its own marker and dash for each "
        "method, with 95 percent intervals; the retrained model is a thick black line with a grey "
        f'band. {plain}"\n\n'
        "UAR on the clips to forget (above) and on speakers whom no model has heard (below), with "
        "95 % intervals from resampling runs and speakers. Each method should come close to the "
        "thick black line, the model **retrained** without the forget set. Points are moved "
        f"sideways so that intervals can be seen. {caption}\n```\n"
    )


def claims(
    shown: results.Results, numbers: pd.DataFrame, verdicts: pd.DataFrame,
    committed: results.Results,
) -> str:
    """Return the table of the paper's claims: its numbers, ours, how sure, and what was not run.

    Args:
        shown: reported evaluations
        numbers: their table, of `speechunlearn.lab.results.table_of_methods`
        verdicts: of `speechunlearn.lab.experiments.claims`
        committed: with the evaluations over tau

    """
    unlike = sentences.unlike_the_paper(shown.evaluations, ("ran_lab", *experiments.ADVERSARIAL))
    ours = numbers.pivot(index=["method", "n_forget"], columns="split", values="value")
    both = zip(landing.claimed(results.paper_table1(), 3), landing.claimed(ours.reset_index(), 2),
               strict=True)
    rows: list[list[object]] = []
    for (words, key), (paper, here) in zip(CLAIMS, both, strict=True):
        tests = verdicts[verdicts["claim"].str.contains(key, regex=False)]
        rows.append([words, paper, here, f"{landing.how_sure(tests)} {chapter('table1')}"])
    shape = experiments.shape_over_tau(committed)
    rows.append([
        "**tau has an interior optimum**: below 0.4 at the smallest tau, lower again at the "
        "largest.", "a curve without numbers: its Figure 2",
        f"smallest tau: {landing.span(shape['smallest tau'], 2)}; "
        f"{int(shape['rises, then falls'].sum())} of {len(shape)} curves rise, then fall",
        f"{'not tested here' if unlike else 'no verdict'}: one run a point. "
        f"{chapter('ablation')}",
    ])
    title = "The paper's claims, in UAR, and what was measured on "
    title += f"{landing.provenance(shown.evaluations)}."
    text = table(["Claim", "The paper", "Here", "How sure"], rows, title, "claims-table", "compact")
    return text + (f"\nNot run as in the paper: {unlike}." if unlike else "")


def chapter(name: str) -> str:
    """Return a link to a chapter by its number: what it is called is too long for a cell."""
    (path,) = (ROOT / "notebooks").glob(f"[0-9][0-9]_{name}.ipynb")
    return f"{{doc}}`Chapter {int(path.stem[:2])} <../notebooks/{path.stem}>`"


def words_and_voices() -> list[list[object]]:
    """Return what the committed runs of chapters 07 and 08 say, a row a question."""
    told, where = [], []
    for words, corpus, task, chapter in MORE:
        run = results.committed("cpu", corpus, task)
        judged = leaderboard.cards(run.select(forget_kind="clips"))
        cards = judged.groupby(["method", "model"])["passed"].all()
        passed = cards.groupby("method").all()
        others, retrained = passed.drop(["original", "retrain"]), cards["retrain"]
        told.append(
            f"{words}: {int(others.sum())} of {len(others)} methods at "
            f"{judged['forget_set'].iloc[0]}, one request; the original "
            f"{'does' if passed['original'] else 'does not'}; retrained models: "
            f"{int(retrained.sum())} of {len(retrained)}."
        )
        where.append(f"{{doc}}`../notebooks/{chapter}`")
    return [
        ["**Whose two scores lie where one more retrained model's would?** UAR on the forgotten "
         "clips and membership AUC; the report card below asks for more.", "<br>".join(told),
         ", ".join(dict.fromkeys(where))],
    ]


def _speakers(shown: results.Results) -> int:
    predictions = shown.predictions
    return predictions[predictions["split"] == "unseen"]["speaker"].nunique()


# A request, and how to cite


def request_page(target: Path, notebooks: list[Path]) -> None:
    """Write what the reports of the request's chapter said first, without references and with."""
    (path,) = (path for path in notebooks if path.stem.endswith("_request"))
    said = []
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("text", ""))
            if text.startswith("verdict: "):
                said.append(text.partition("\n")[0])
    before, beside = said[:2]
    target.write_text(
        f"Without retrained models, the request of {chapter('request')} ends with\n\n"
        f"> {before}\n\nand the same model, beside retrained ones, with\n\n> {beside}\n"
    )


def citing() -> str:
    """Return BibTeX of this software, from ``CITATION.cff``, and of the paper."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    fields = {
        "author": " and ".join(f"{{{author['name']}}}" for author in cff["authors"]),
        "title": cff["title"], "version": cff["version"],
        "year": _git("log", "-1", "--format=%cd", "--date=format:%Y"), "license": cff["license"],
        "url": cff.get("repository-code", ""),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    bibliography = (ROOT / "book" / "references.bib").read_text()
    paper = re.search(r"@misc{ren2025forget,.*?\n}\n", bibliography, re.DOTALL)
    assert paper is not None
    return f"```bibtex\n@software{{speechunlearn,\n{lines}}}\n\n{paper[0]}```\n"
