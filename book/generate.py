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
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torchless
import yaml

torchless.install()

import matplotlib  # noqa: E402

matplotlib.use("agg")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from speechunlearn import (  # noqa: E402
    corpora,
    experiments,
    figures,
    leaderboard,
    machine,
    methods,
    results,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "speechunlearn"

#: the committed run that the landing page shows
SHOWN = ("cpu", "ravdess")
SETTING = "validation"

#: turns of ``benchmarks/request.py``, and what its contenders are called
SPEED = ROOT / "data" / "benchmarks" / "request.csv"
CONTENDERS = {
    "quick": "this package, `--quick`",
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
    for folder in ("corpora", "methods"):
        (source / "generated" / folder).mkdir(parents=True)
    corpus_pages(source / "generated")
    method_pages(source / "generated")
    api_pages(source / "book" / "api", source / "generated" / "api.md")
    status_page(source / "generated" / "status.md", notebooks)
    speed_page(source / "generated" / "speed.md")
    for notebook in sorted((source / "notebooks").glob("*.ipynb")):
        caption(notebook)
    return landing_page(source / "generated")


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


# Corpora


def card(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "data" / "cards" / f"{name}.json").read_text())


def corpus_pages(folder: Path) -> None:
    """Write the facts of each corpus, from its reader and its card."""
    rows = []
    for name, corpus in corpora.known().items():
        facts = card(name)
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
            ["Reader", source_link(_file_of(corpus))],
        ]
        text = f"{corpus.title}.\n\n" + table(
            ["", f"`{name}`"], lines, f"Facts of `{name}`.", f"facts-corpus-{name}"
        )
        text += "\nIt is **not**\n\n" + "".join(f"- {line}\n" for line in facts["is_not"])
        (folder / "corpora" / f"{name}.md").write_text(text)
    (folder / "corpora.md").write_text(
        table(["Name", "Task", "Language", "Licence"], rows, "The corpora.", "corpora-table")
    )


def _file_of(corpus: corpora.Corpus) -> Path:
    """Return the file that defines a corpus."""
    for name, module in inspect.getmembers(corpora, inspect.ismodule):
        if any(value is corpus for value in vars(module).values()):
            return PACKAGE / "corpora" / f"{name}.py"
    raise ValueError(f"no file of the package defines corpus {corpus.name!r}")


# Methods


def method_pages(folder: Path) -> None:
    """Write the facts of each method, from the registry and its file."""
    rows = []
    for name, method in methods.METHODS.items():
        path = PACKAGE / "methods" / f"{name}.py"
        needs = ", ".join(words for need, words in NEEDS.items() if need in method.needs)
        rows.append([f"{{ref}}`{name} <method-{name}>`", method.title, needs])
        told = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
        summary, _, rest = told.partition("\n\n")
        source = rest.removeprefix("Source:").strip().replace("``", "`")
        lines = [
            ["In tables", method.title],
            ["Data needed", needs],
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
        inner = sorted(p.stem for p in package.glob("*.py") if p.stem != "__init__")
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

    Raises:
        ValueError: a figure whose function has neither

    """
    texts = yaml.safe_load((ROOT / "book" / "captions.yml").read_text())
    content = json.loads(notebook.read_text())
    cells = []
    for number, cell in enumerate(content["cells"]):
        cells.append(cell)
        outputs = cell.get("outputs", [])
        images = [output for output in outputs if "image/png" in output.get("data", {})]
        if not images:
            continue
        drawn = re.findall(r"\b(?:figures|pages)\.(\w+)\(", "".join(cell["source"]))
        known = [name for name in drawn if name in texts]
        if not known:
            raise ValueError(f"{notebook.name}, cell {number}: no text in captions.yml: {drawn}")
        text = texts[known[-1]]
        if len(outputs) > 1:  # a caption holds for all outputs of a cell
            cell["outputs"] = [output for output in outputs if output not in images]
            cell = {
                "cell_type": "code", "execution_count": None, "id": f"figure-{number}",
                "metadata": {"tags": ["remove-input"]}, "outputs": images, "source": "",
            }
            cells.append(cell)
        cell["metadata"]["mystnb"] = {
            "figure": {
                "caption": text["caption"].strip(),
                "name": f"{notebook.stem}-{known[-1].replace('_', '-')}",
            },
            "image": {"alt": " ".join(text["alt"].split())},
        }
    notebook.write_text(json.dumps(content | {"cells": cells}))


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
            commit = machine.commit()
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
    for folder in sorted(path.parent for path in results.COMMITTED.glob("*/cells.csv")):
        cells = results.Results.read(folder).cells
        # one model may stand for forget sets of several sizes
        models = cells.drop_duplicates(["setting", "method", "seed", "seconds"])

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
        "The time is the sum over the models.\n\n"
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
        r"pairs .*?; machine: (?P<machine>.*?), (?P<versions>Python .*)\."
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
                ratio = wide[clock, contender] / wide[clock, "quick"]
                span = f"{ratio.median():.2f}"
                if len(ratio) > 1:
                    span += f" ({ratio.min():.2f} to {ratio.max():.2f})"
                row.append("1" if contender == "quick" else span)
            rows.append(row)
        (machine_,) = own["machine"].unique()
        count = own["round"].nunique()
        parts.append(
            f"{about['n']} clips of {about['corpus']}, {own['mean_seconds'].iloc[0]:.1f} s on "
            f"average, $M$ = {about['copies']}, $P$ = {about['steps']}, epochs: {about['epochs']}, "
            f"encoder `{about['encoder']}`, {count} {'round' if count == 1 else 'rounds'}; "
            f"{machine_}; commit {own['commit'].iloc[0]}:\n\n"
            + table(["", "seconds", "times quick's", "the attack alone", "processor time"], rows)
        )
    target.write_text("\n".join(parts))


# Landing page


#: the paper's claims, in the order of the page on the paper: words, the claims of
#: `experiments.claims` that test them, and where
CLAIMS = (
    ("**Forgetting.** UAR on the forget set falls below chance.", "forgetting: ", "05_table1"),
    ("**Retention.** UAR on unseen speakers stays adequate (here: it loses less than 0.10).",
     "retention: ", "05_table1"),
    ("**Adversarial copies help**: both methods beat random labels on unseen speakers.",
     " keeps more than Ran. Lab.", "05_table1"),
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

#: our own method, which is set beside the others
OURS = "altered"


def landing_page(folder: Path) -> dict[str, str]:
    """Write the figure and the claims of the landing page; return the numbers in its prose."""
    committed = results.committed(*SHOWN)
    if committed is None:
        raise FileNotFoundError(f"no committed results of {SHOWN}")
    shown = committed.reported().select(setting=SETTING, request="clips")
    chance = 1 / committed.n_labels
    numbers = results.table_of_methods(shown, SETTING, generator=np.random.default_rng(0))
    matplotlib.rcParams["svg.hashsalt"] = "book"
    figures.over_n(numbers, chance).savefig(
        folder / "result.svg", metadata={"Date": None}, bbox_inches="tight"
    )
    verdicts = experiments.claims(
        shown, SETTING, chance=chance, generator=np.random.default_rng(0)
    )
    rows = [
        [words, found(verdicts[verdicts["claim"].str.contains(key, regex=False)]),
         f"{{doc}}`../notebooks/{where}`"]
        for words, key, where in CLAIMS
    ]
    rows.append(
        ["**tau has a middle**: UAR on unseen speakers is below 0.4 at the smallest tau, and falls "
         "again at the largest.",
         found_over_tau(experiments.shape_over_tau(committed)), "{doc}`../notebooks/06_ablation`"]
    )
    (folder / "claims.md").write_text(
        table(["Claim of the paper", "What we find", "Where"], rows,
              f"The paper's claims on {provenance(shown.cells)}.", "claims-table")
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
    (folder / "result.md").write_text(table(header, rows))  # README.md has it, too

    (folder / "leaderboards.md").write_text(leaderboards())  # and this

    def span(method: str, split: str) -> str:
        values = [value[method, n, split] for n in sizes]
        low, high = f"{min(values):.2f}", f"{max(values):.2f}"
        return low if low == high else f"{low} to {high}"

    return {
        "provenance": provenance(shown.cells),
        "chance": f"{chance:.2f}",
        "sizes": ", ".join(map(str, sizes[:-1])) + f" and {sizes[-1]}",
        "retrained_forget": span("retrain", "forget"),
        "retrained_unseen": span("retrain", "unseen"),
        "original_forget": span("original", "forget"),
        "original_unseen": span("original", "unseen"),
        "ran_lab_forget": span("ran_lab", "forget"),
        "ran_lab_unseen": span("ran_lab", "unseen"),
        "adv_forget": span("adv", "forget"),
        "adv_unseen": span("adv", "unseen"),
        "adv_ela_forget": span("adv_ela", "forget"),
        "adv_ela_unseen": span("adv_ela", "unseen"),
        "n_speakers": str(_speakers(shown)),
        "n_pairs": str(int(numbers["pairs"].max())),
    }


def words_and_voices() -> list[list[object]]:
    """Return what the committed runs of chapters 07 and 08 say, a row a question."""
    images = results.committed("cpu", "digits")
    runs = {
        words: (results.committed("cpu", corpus, task), where)
        for words, corpus, task, where in MORE
    }
    known = {words: (run, where) for words, (run, where) in runs.items() if run is not None}
    compared, audited = [], []
    for words, (run, _) in known.items():
        if images is not None:
            count = results.further_from_retraining(run, images)["further"].value_counts()
            said = [
                f"{what} for {count[verdict]}" for verdict, what in
                (("one", "speech"), ("other", "images"), ("undecided", "undecided"))
                if verdict in count
            ]
            compared.append(f"{words}: {', '.join(said)} of {count.sum()} models.")
        judged = results.verdicts(run.select(request="clips"))
        passed = judged.groupby("method")["passed"].all()
        told = passed.drop(["original", "retrain"])
        audited.append(
            f"{words}: {int(told.sum())} of {len(told)} methods at {judged['request'].iloc[0]}; "
            f"the original {'passes' if passed['original'] else 'fails'}, retrained models "
            f"{'pass' if passed['retrain'] else 'fail'}."
        )
    where = ", ".join(f"{{doc}}`../notebooks/{w}`" for w in sorted({w for _, w in known.values()}))
    return [
        ["**Is speech harder to unlearn than images?** Which is left further from retraining "
         "{cite:p}`cheng2025speech`.", "<br>".join(compared), where],
        ["**Who passes the audit?** UAR and membership AUC on the forgotten clips where one more "
         "retrained model's would lie.", "<br>".join(audited), where],
    ]


def leaderboards() -> str:
    """Return the committed leaderboards in short: a row a corpus, and who comes closest."""
    rows = []
    for words, name in LEADERBOARDS:
        own = leaderboard.FOLDER / name
        if not own.is_dir():
            continue
        ranking = pd.read_csv(own / "ranking.csv").set_index("method")
        several = pd.read_csv(own / "repeated.csv").set_index("method")
        others = ranking.drop(index=["original", "retrain", OURS]).sort_values("gap")

        def said(method: str, ranking: pd.DataFrame = ranking) -> str:
            row = ranking.loc[method]
            return (
                f"{row['gap']:.3f} [{row['gap_low']:.3f}, {row['gap_high']:.3f}], "
                f"keeps {row['kept']:.2f}, passes {100 * row['passed']:.0f} %"
            )

        alone, more = others[others["alone"]].index[0], others[~others["alone"]].index[0]
        once, ours = (several.loc[f"{methods.get(OURS).title}, {how}"]
                      for how in ("at once", "in 5 requests"))
        rows.append([
            words, said("retrain"), said("original"), said(OURS),
            f"{ours['gap'] / once['gap']:.1f} times the gap, keeps {ours['kept']:.2f}, "
            f"passes {100 * ours['passed']:.0f} %",
            *(f"{methods.get(method).title}: {said(method)}" for method in (alone, more)),
        ])
    header = ["", *(row[0] for row in rows)]
    titles = [
        "Retrained models, each beside the others", "The original", "Altered copies (ours)",
        "The same in five requests", "Closest other from the forget set alone",
        "Closest that sees more",
    ]
    return table(
        header,
        [[title, *(row[i] for row in rows)] for i, title in enumerate(titles, start=1)],
    )


def provenance(cells: pd.DataFrame) -> str:
    """Return what the numbers of some cells are about."""
    (profile,), (corpus,), (encoder,) = (
        cells[column].unique() for column in ("profile", "corpus", "encoder")
    )
    title = corpora.get(corpus).title.partition(":")[0]
    return f"{title}, profile `{profile}`, encoder `{encoder}`"


def _speakers(shown: results.Results) -> int:
    predictions = shown.predictions
    return predictions[predictions["split"] == "unseen"]["speaker"].nunique()


def found(verdicts: pd.DataFrame) -> str:
    """Return what becomes of a claim, method by method: verdicts with the sizes they hold for."""
    parts = []
    for claim, rows in verdicts.groupby("claim", sort=False):
        text = str(claim)
        named = [title for title in results.TITLES.values() if title in text]
        name = min(named, key=lambda title: (text.index(title), -len(title)))
        if "elastic" in text:
            name = "Adv. + Ela."
        by_verdict = rows.groupby("verdict", sort=False)["n_forget"]
        words = [
            f"{verdict} at N = {', '.join(str(n) for n in sizes)}"
            if len(rows) > 1 and by_verdict.ngroups > 1
            else f"{verdict}" + (" at every N" if len(rows) > 1 else "")
            for verdict, sizes in by_verdict
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
            f"a middle at N = {', '.join(middle)}" if middle else "a middle nowhere",
        ]
        parts.append(f"{method}: {'; '.join(words)}.")
    return "<br>".join(parts) + "<br>One training run a point: no intervals."
