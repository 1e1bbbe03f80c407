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
import textwrap
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

import folded  # noqa: E402
import landing  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from benchmarks.summary import summary  # noqa: E402
from speechunlearn import corpora, methods, provenance  # noqa: E402
from speechunlearn.chapters import pages  # noqa: E402
from speechunlearn.lab import (  # noqa: E402
    experiments,
    leaderboard,
    results,
    sentences,
    tuning,
)

PACKAGE = ROOT / "speechunlearn"

#: the committed run that the landing page shows
SHOWN = ("cpu", "ravdess")
SETTING = "validation"

#: turns of ``benchmarks/request.py``, and what its contenders are called
SPEED = ROOT / "data" / "benchmarks" / "request.csv"
#: requests of ``benchmarks/requests.py``
REQUESTS = ROOT / "data" / "benchmarks" / "requests.csv"
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
    for notebook in sorted((source / "notebooks").glob("*.ipynb")):
        caption(notebook)
        keep_intervals(notebook)
        folded.tag(notebook)
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


def table(header: list[str], rows: list[list[object]], title: str = "", name: str = "") -> str:
    """Return a table in Markdown; with a title it is numbered."""
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)
    if not title:
        return text + "\n"
    # colons: between backticks, a title could hold none
    return f"::::{{table}} {title}\n:name: {name}\n\n{text}\n::::\n"


def narrower(header: list[str], rows: list[list[object]], title: str, name: str) -> str:
    """Return a numbered table, and in words before it the columns that hold one value only."""
    same = [i for i in range(1, len(header)) if len({str(row[i]) for row in rows}) == 1]
    words = "; ".join(f"{header[i].lower()}: {rows[0][i]}" for i in same)
    kept = [i for i in range(len(header)) if i not in same]
    text = table([header[i] for i in kept], [[row[i] for i in kept] for row in rows], title, name)
    return (f"In all rows: {words}.\n\n" if words else "") + text


def _cell(value: object) -> str:
    return str(value).replace("\n", " ").replace("|", "\\|")


def source_link(path: Path) -> str:
    """Return a link to a module's file in the repository, and to its part of the API pages."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    relative = path.relative_to(ROOT)
    address = f"{repository['url']}/blob/{repository['branch']}/{relative.as_posix()}"
    module = ".".join(relative.with_suffix("").parts)
    return f"[`{relative.as_posix()}`]({address}), {{py:mod}}`in the API <{module}>`"


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
        text = f"{corpus.title}.\n\n" + table(
            ["", f"`{name}`"], lines, f"Facts of `{name}`.", f"facts-corpus-{name}"
        )
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
    """Write the facts of each method, from the registry and its file."""
    rows = []
    for method in own_methods():
        name, path = method.name, PACKAGE / "methods" / f"{method.name}.py"
        needs = ", ".join(words for need, words in NEEDS.items() if need in method.needs)
        rows.append([f"{{ref}}`{name} <method-{name}>`", method.title, needs])
        told = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
        summary, _, rest = told.partition("\n\n")
        source = rest.removeprefix("Source:").strip().replace("``", "`")
        lines = [
            ["In tables", method.title],
            ["Data needed", needs],
            [
                "Hyperparameter tuned",
                f"`{method.hyperparameter}`" if method.hyperparameter else f"none: {method.untuned}"
            ],
            ["Source", linked(source[:1].upper() + source[1:])],
            ["File", source_link(path)],
        ]
        text = summary + "\n\n" + table(
            ["", f"`{name}`"], lines, f"Facts of `{name}`.", f"facts-method-{name}"
        )
        fields = dataclasses.fields(method.parameters)
        if fields:
            meaning = _meanings(method.parameters)
            text += "\n" + table(
                ["Hyperparameter", "Default", "What it is"],
                [[f"`{f.name}`", f"`{f.default!r}`", meaning.get(f.name, "")] for f in fields],
                f"Hyperparameters of `{name}`: `-p` and the profiles set other values.",
                f"hyperparameters-{name}",
            )
        (folder / "methods" / f"{name}.md").write_text(text)
        (folder / "methods" / f"{name}-file.md").write_text(shown_file(path))
    (folder / "methods.md").write_text(
        table(["Name", "In tables", "Needs"], rows, "The methods.", "methods-table")
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


def modules() -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the modules of each API page."""
    for path in sorted(PACKAGE.glob("*.py")):
        if path.stem != "__init__":
            yield f"speechunlearn.{path.stem}", [f"speechunlearn.{path.stem}"]
    for package in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        name = f"speechunlearn.{package.name}"
        inner = sorted(
            [p.stem for p in package.glob("*.py") if p.stem != "__init__"]
            + [p.parent.name for p in package.glob("*/__init__.py")]
        )
        yield name, [name, *(f"{name}.{stem}" for stem in inner)]


def api_pages(folder: Path, overview: Path) -> None:
    """Write a page for every module, whose docstrings are put in by Sphinx, and a list of them."""
    folder.mkdir(parents=True)
    rows: list[list[object]] = []
    for title, names in modules():
        path = PACKAGE.parent.joinpath(*title.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        said = ast.get_docstring(ast.parse(file.read_text())) or ""
        rows.append([f"{{doc}}`{title} <api/{title}>`", said.partition("\n")[0]])
        text = f"# {title}\n"
        for name in names:
            if name != title:
                text += f"\n## {name}\n"
            text += f"\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
        (folder / f"{title}.md").write_text(text)
    overview.write_text(table(["Module", "What it is"], rows, "The modules.", "api-modules"))


# Captions


def caption(notebook: Path) -> None:
    """Put captions and alternative texts beside the figures of a notebook.

    A caption holds for all outputs of a cell. So a cell that shows a figure and something else is
    parted: its outputs keep their order, and each figure is alone in a cell.

    Raises:
        ValueError: a figure whose function has no text

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
        drawn = re.findall(r"\b(?:figures|pages)\.(\w+)\(", "".join(cell["source"]))
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
    """Let no line of a notebook's tables end within an interval: ``0.43 [0.35,&nbsp;0.51]``."""
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                html = "".join(output["data"]["text/html"])
                output["data"]["text/html"] = re.sub(
                    r"\[(-?[\d.]+), (-?[\d.]+)\]", r"[\1,&nbsp;\2]", html
                )
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
    packages = ("jupyter-book", "sphinx", "myst-nb", "pandas", "matplotlib")
    built = ", ".join(f"{name} {version(name)}" for name in packages)
    text += (
        f"\n## This build\n\nPython {platform.python_version()}, {built}; commit "
        f"`{_git('rev-parse', '--short=12', 'HEAD') or 'unknown'}`. No deep-learning library was "
        "loaded to build it.\n"
    )
    target.write_text(text)


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
    """Write the table of the committed requests of ``benchmarks/requests.py``."""
    rows = pd.read_csv(REQUESTS, dtype={"kind": str})
    made = rows[rows["who"] == "unlearned"]
    (machine,) = made["machine"].unique()
    commits = ", ".join(sorted(made["commit"].unique()))
    found = summary(rows).to_dict("records")
    shown = [
        [row["kind"], str(row["requests"])]
        + [f"{row[name]}; beyond: {row[f'{name} beyond']}" for name in ("loss", "uar", "auc")]
        + [row["utility"]] for row in found
    ]
    head = ["clips", "requests", "mean forget loss", "forget UAR", "attack on the loss, AUC",
            "utility relative to the original"]
    target.write_text(table(head, shown) + f"\n\n{machine}; commit {commits}.\n")


def pool_page(target: Path) -> None:
    """Write the table of the committed pool, two decimals."""
    rows = pd.read_csv(POOL).drop(columns=["originals", "references"])  # six of either
    rows = rows.rename(columns=lambda name: name.replace("sd of the loss, references", "sd"))
    shown = [
        [str(value) if isinstance(value, (str, int)) else f"{value:.2f}" for value in row]
        for row in rows.astype(object).itertuples(index=False)
    ]
    target.write_text(table(list(rows), shown) + "\n")


# Landing page


#: the paper's claims, in the order of the page on the paper: words, the claims of
#: `experiments.claims` that test them, and where
CLAIMS = (
    ("**Forgetting.** UAR on the forget set falls below chance.", "forgetting: ", "05_table1"),
    ("**Retention.** UAR on unseen speakers stays adequate (here: it loses less than 0.10).",
     "retention: ", "05_table1"),
    ("**Adversarial copies help**: both methods beat random labels on unseen speakers.",
     " has a higher UAR than Ran. Lab.", "05_table1"),
    ("**Elastic weights help** further: Adv. + Ela. beats Adv.", "elastic weights help",
     "05_table1"),
    ("**More to forget is harder**: UAR on unseen speakers falls with N.", " falls with N",
     "05_table1"),
)


#: committed runs of the other tasks: in words, corpus, task, and where
MORE = (
    ("Arabic words", "arabic_speech_commands", "keyword", "07_keyword_spotting"),
    ("English words", "speech_commands_10", "keyword", "07_keyword_spotting"),
    ("Arabic speakers", "arabic_speech_commands", "speaker", "08_speaker_identification"),
)


#: committed leaderboards: in words, and folder
LEADERBOARDS = (
    ("RAVDESS emotions", "cpu-ravdess"),
    ("Arabic words", "cpu-arabic_speech_commands"),
    ("Arabic speakers", "cpu-arabic_speech_commands-speaker"),
)


def landing_page(folder: Path) -> dict[str, str]:
    """Write the figure, tables and sentences of the first page; return the numbers in its prose.

    README.md has the table and the sentences, too: ``results.md``, and ``leaderboards.md``.
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
    (folder / "claims.md").write_text(claims(shown, verdicts, committed) + f"\n{decided}\n")
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
    (folder / "results.md").write_text("\n".join([
        filled(caption), table(header, rows), *(filled(sentence, "- ") for sentence in said), "",
        filled(decided),
    ]))
    (folder / "leaderboards.md").write_text(leaderboards())
    (folder / "leaderboards_said.md").write_text(said_of_leaderboards())
    return {"provenance": landing.provenance(shown.evaluations)}


def filled(text: str, mark: str = "") -> str:
    """Return a paragraph, or an item of a list, in lines of README's width."""
    return textwrap.fill(
        text, 119, initial_indent=mark, subsequent_indent=" " * len(mark),
        break_long_words=False, break_on_hyphens=False,
    ) + "\n" * (not mark)


def shown_figure(caption: str, said: list[str]) -> str:
    """Return the figure of the first page, whose alternative text says what its sentences say."""
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


def claims(shown: results.Results, verdicts: pd.DataFrame, committed: results.Results) -> str:
    """Return the rule of a verdict, and the table of the paper's claims with the verdict on each.

    Args:
        shown: reported cells
        verdicts: of `speechunlearn.lab.experiments.claims`
        committed: with the cells over tau

    """
    unlike = sentences.unlike_the_paper(shown.evaluations, ("ran_lab", *experiments.ADVERSARIAL))
    rows = []
    for words, key, where in CLAIMS:
        own = verdicts[verdicts["claim"].str.contains(key, regex=False)]
        verdict = ", ".join(dict.fromkeys(own["verdict"]))
        rows.append([words, verdict, found(own), f"{{doc}}`../notebooks/{where}`"])
    rows.append(
        ["**tau has an interior optimum**: UAR on unseen speakers is below 0.4 at the smallest "
         "tau, and falls again at the largest.",
         "not tested here" if unlike else "one run: no verdict",
         found_over_tau(experiments.shape_over_tau(committed)), "{doc}`../notebooks/06_ablation`"]
    )
    title = "The paper's claims, and what was measured on "
    title += f"{landing.provenance(shown.evaluations)}."
    if unlike:
        title += f" Not tested here: {unlike}."
    header = ["Claim of the paper", "Verdict", "The difference measured", "Where"]
    return f"{experiments.RULE}\n\n" + table(header, rows, title, "claims-table")


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


def _ranked() -> dict[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
    """Return the ranking, the requests in several and the trials of each committed leaderboard."""
    return {
        words: (
            pd.read_csv(leaderboard.FOLDER / name / "ranking.csv").set_index("method"),
            pd.read_csv(leaderboard.FOLDER / name / "sequential.csv").set_index("method"),
            pd.read_csv(tuning.FOLDER / f"{name}.csv"),
        )
        for words, name in LEADERBOARDS
    }


def leaderboards() -> str:
    """Return the committed leaderboards in short: a row a model, those of a corpus together."""
    rows: list[list[object]] = []
    for words, (ranking, several, _) in _ranked().items():
        others = ranking.drop(index=["original", "retrain", leaderboard.OURS]).sort_values("gap")
        forget_only, more = others[others["forget_only"]].index[0], others[
            ~others["forget_only"]
        ].index[0]
        rows.append([f"**{words}**", "", "", "", ""])
        for method, title in (
            ("retrain", "Retrained, leave-one-out"),
            ("original", "Original"),
            (leaderboard.OURS, "Self-distillation to perturbed copies (ours)"),
            (forget_only, f"{methods.get(forget_only).title}: best other forget-set-only method"),
            (more, f"{methods.get(more).title}: best method with access to retained data"),
        ):
            row = ranking.loc[method]
            gap = f"{row['gap']:.3f} [{row['gap_low']:.3f}, {row['gap_high']:.3f}]"
            rows.append([title, gap, *_halves_and_cards(row)])
            if method == leaderboard.OURS:
                row = several.loc[f"{methods.get(method).title}, in 5 sequential requests"]
                rows.append(
                    [
                        "The same, five sequential requests", f"{row['gap']:.3f}",
                        *_halves_and_cards(row)
                    ]
                )
    header = ["", "average gap", "forgetting distance", "utility distance", "cards passed"]
    return table(header, rows)


def _halves_and_cards(row: pd.Series) -> list[object]:
    return [
        f"{row['forgetting']:.3f}", f"{row['utility']:.3f}",
        f"{row['cards_passed']:.0f} of {row['cards']:.0f}",
    ]


def said_of_leaderboards() -> str:
    """Return what the committed leaderboards say, in sentences: README.md has them, too."""
    found = _ranked()
    first, apart, passed, several, utility, forgetting = [], [], [], [], [], []
    for words, (ranking, sequential, _) in found.items():
        ours, original, retrained = (
            ranking.loc[name] for name in (leaderboard.OURS, "original", "retrain")
        )
        forget_only = ranking[ranking["forget_only"]].sort_values("gap")
        best = forget_only.index[0]
        told = forget_only["p"].drop(best) < 0.05
        first.append(f"{methods.get(best).title} on {words}")
        apart.append(f"{told.sum()} of the {len(told)} others on {words}")
        once = sequential.loc[f"{methods.get(leaderboard.OURS).title}, at once"]
        five = sequential.loc[f"{methods.get(leaderboard.OURS).title}, in 5 sequential requests"]
        several.append(
            f"from {once['forgetting']:.3f} to {five['forgetting']:.3f} and from "
            f"{once['utility']:.3f} to {five['utility']:.3f} on {words}"
        )
        utility.append(f"{ours['utility']:.3f} on {words} (retrained: {retrained['utility']:.3f})")
        forgetting.append(f"{closed(ranking, leaderboard.OURS):.0f} % on {words}")
        passed.append(
            f"on {words} {ours['cards_passed']} of {ours['cards']} of self-distillation, "
            f"{original['cards_passed']} of {original['cards']} of the original, "
            f"{retrained['cards_passed']} of {retrained['cards']} of retrained models"
        )
    words, (ranking, _, trials) = next(iter(found.items()))
    amun, original = ranking.loc["amun"], ranking.loc["original"]
    points = 100 * (original["retain_uar"] - amun["retain_uar"])
    lines = [
        f"**First of the forget-set-only methods:** {_listed(first)}. A test against the first "
        f"(n = {ranking['runs'].iloc[0]} runs, Holm's correction) tells apart from it "
        f"{_listed(apart)}; AMUN and self-distillation it never tells apart.",
        f"**What self-distillation does.** It keeps utility: its distance is {_listed(utility)}. "
        f"It closes part of the original's distance in forgetting: {_listed(forgetting)}.",
        f"**What AMUN does.** On {words} it closes {closed(ranking, 'amun'):.0f} % of the distance "
        f"in forgetting, at a cost of {points:.0f} points of UAR on the retain set.",
        f"**Cards passed:** {'; '.join(passed)}.",
        "**Sequential unlearning**, in five requests, changes the distances of self-distillation "
        f"in forgetting and in utility {'; '.join(several)}.",
        f"**Not the same budget.** {pages.budget(trials)} {leaderboard.REDESIGNED}",
    ]
    return "".join(
        textwrap.fill(line, 118, initial_indent="- ", subsequent_indent="  ",
                      break_long_words=False, break_on_hyphens=False) + "\n"
        for line in lines
    )


def closed(ranking: pd.DataFrame, method: str) -> float:
    """Return how much of the original's forgetting distance a method closes, in percent."""
    distance = ranking["forgetting"]
    return 100 * (1 - distance[method] / distance["original"])


def _listed(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


def _speakers(shown: results.Results) -> int:
    predictions = shown.predictions
    return predictions[predictions["split"] == "unseen"]["speaker"].nunique()


def found(verdicts: pd.DataFrame) -> str:
    """Return where the differences of a claim lie, method by method, with their sizes."""
    parts = []
    for claim, rows in verdicts.groupby("claim", sort=False):
        text = str(claim)
        named = [title for title in results.TITLES.values() if title in text]
        name = min(named, key=lambda title: (text.index(title), -len(title)))
        if "elastic" in text:
            name = "Adv. + Ela."
        by_side = rows.groupby("difference", sort=False)["n_forget"]
        words = [
            f"{side} at N = {', '.join(str(n) for n in sizes)}"
            if len(rows) > 1 and by_side.ngroups > 1
            else f"{side}" + (" at every N" if len(rows) > 1 else "")
            for side, sizes in by_side
        ]
        parts.append(f"{name}: " + "; ".join(words) + ".")
    return "<br>".join(parts)


def found_over_tau(shape: pd.DataFrame) -> str:
    """Return in words whether UAR over tau rises and falls again."""
    parts = []
    for method, rows in shape.groupby("method", sort=False):
        middle = [str(n) for n in rows["N"][rows["rises, then falls"]]]
        low = [str(n) for n in rows["N"][rows["smallest tau"] < 0.4]]
        words = [
            f"below 0.4 at the smallest tau at N = {', '.join(low)}" if low
            else "never below 0.4 at the smallest tau",
            f"an interior optimum at N = {', '.join(middle)}" if middle
            else "an interior optimum nowhere",
        ]
        parts.append(f"{method}: {'; '.join(words)}.")
    return "<br>".join(parts) + "<br>One training run a point: no intervals."
