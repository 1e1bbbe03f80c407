"""The command line: deletion requests on a model, and the corpora and experiments of the book."""

from __future__ import annotations

import errno
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from speechunlearn import __version__, provenance, tool
from speechunlearn.errors import CONTROL, SpeechUnlearnError, lack_is_told

_CSV = "CSV with the columns path, label and, where known, speaker"


def _option(kind: Any, text: str, *names: str, **more: Any) -> Any:
    """Return the type of an option."""
    return Annotated[kind, typer.Option(*names, help=text, **more)]


Reader = Annotated[str, typer.Argument(help="name of a reader, see `speechunlearn corpora`")]
SkipBad = _option(bool, "list and leave out clips that are bad")
Items = _option(list[str] | None, "name=value, may be repeated", "-p", "--parameter")
Chapters = Annotated[list[str] | None, typer.Argument(help="numbers or names; all without it")]
Profile = _option(str, "smoke, cpu, paper, or a YAML file of your own")
Cells = _option(bool, "first a job for each artefact that chapters need", "--evaluations")
Config = _option(list[str] | None, "name=value, may be repeated", "-C", "--config")
Jobs = _option(int, "chapters, or jobs, at a time")
ProfileDir = _option(str, "Snakemake profile: a folder, or local, slurm, kubernetes")
Model = _option(str, "folder or hub id of a transformers audio-classification checkpoint")
Forget = _option(Path, f"clips to forget, or said to be forgotten: {_CSV}")
Retain = _option(Path | None, "clips it was trained on and keeps")
Unseen = _option(Path | None, "clips it was not trained on")
References = _option(
    list[str] | None, "a model retrained without the clips; repeat it", "--reference"
)
Method = _option(str | None, "the leaderboard's without it")
Seed = _option(int, "of all randomness")
Epochs = _option(int | None, "also predict this number of epochs of training anew")
OfRun = _option(Path | None, "folder of a run; the committed tables without it")
Quick = _option(bool, "sooner; other bits, same method", "--fast")
Root = _option(Path | None, "folder that paths in the CSVs lie in; each CSV's own without it")
Outside = _option(bool, "let paths in the CSVs lead out of the root", "--allow-outside")
Require = _option(
    bool, "end with status 3 unless the verdict is: indistinguishable from retraining", "--require"
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _version(asked: bool | None) -> None:
    if asked:
        commit, lock = provenance.commit(), provenance.lock_hash()
        typer.echo(f"speechunlearn {__version__}, commit {commit}, lock {lock}")
        raise typer.Exit


_Version = _option(bool | None, "what this is", "--version", callback=_version, is_eager=True)


@app.callback()
def options(version: _Version = None) -> None:
    """Make trained speech models forget, and check that they did."""


@app.command()
def corpora() -> None:
    """List the corpora: licence, how to get each, and whether it is here."""
    from speechunlearn import corpora as registry

    for corpus in registry.known().values():
        root = corpus.default_root
        here = "here" if root is not None and root.is_dir() else "not here: give --root"
        typer.echo(f"{corpus.name}: {corpus.title}")
        typer.echo(f"  licence: {corpus.licence}")
        typer.echo(f"  to get it: {corpus.how_to_get}")
        if corpus.archives:
            versions = ", ".join(archive.version for archive in corpus.archives)
            typer.echo(f"  or: speechunlearn download {corpus.name} --root DIR ({versions})")
        typer.echo(f"  {here}")


@app.command()
def download(
    corpus: Reader,
    root: Annotated[Path, typer.Option(help="folder to make")],
    version: Annotated[str | None, typer.Option(help="the usual one without it")] = None,
) -> None:
    """Download a corpus, check its hash, unpack it. Run it again after an interruption."""
    from speechunlearn import corpora as registry
    from speechunlearn.corpora.download import download as fetch

    where = fetch(registry.get(corpus), root, version)
    _say(f"{where}: read it with speechunlearn manifest {corpus} --root {root}")


@app.command()
def manifest(
    corpus: Reader,
    root: Annotated[Path | None, typer.Option(help="folder; for csv, the CSV file")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write; the screen without it")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Read and check every clip of a corpus and write its manifest as CSV."""
    from speechunlearn import corpora as registry
    from speechunlearn.files import replaced
    from speechunlearn.tool import output_folder

    if out is not None and (out.exists() and not out.is_file()):
        raise SpeechUnlearnError(f"out: {str(out)!r} is no file")
    if out is not None and not out.resolve().parent.is_dir():
        raise SpeechUnlearnError(f"out: the folder of {str(out)!r} does not exist")
    table = registry.read_manifest(corpus, root, skip_bad)
    for path, reason in table.attrs.get("skipped", []):
        _say(f"left out: {path}: {reason}")
    if out is None:
        typer.echo(table.to_csv(index=False), nl=False)
        return
    with output_folder.writing(out), replaced(out.resolve()) as partial:
        table.to_csv(partial, index=False)
    _say(f"{len(table)} clips of {table['speaker'].nunique()} speakers: {out}")


@app.command()
def run(
    chapter: Chapters = None,
    profile: Profile = "smoke",
    corpus: Annotated[str, typer.Option(help="name of a reader; the profile's without it")] = "",
    root: Annotated[str, typer.Option(help="the corpus's folder, or the CSV")] = "",
    parameter: Items = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path, typer.Option(help="folder of notebooks and results")] = Path("runs"),
    jobs: Jobs = 1,
    evaluations: Cells = False,
    profile_dir: ProfileDir = "local",
) -> None:
    """Run chapters with your parameters. Finished work is found again: run it twice to resume.

    For example:

        speechunlearn run 5 6 --profile cpu --corpus ravdess --root PATH --out runs
    """
    from speechunlearn import corpora as registry
    from speechunlearn.chapters import context
    from speechunlearn.dataset import tasks
    from speechunlearn.lab import profiles

    provenance.need_checkout("speechunlearn run")
    values = _values("-p", parameter)
    for name in ("profile", "corpus", "root", "skip-bad", "out"):
        parameter_name = "results" if name == "out" else name.replace("-", "_")
        if parameter_name in values:
            raise SpeechUnlearnError(f"-p {parameter_name}=...: give --{name} instead")
    chosen = profiles.get(profile)
    if not corpus and registry.get(chosen.corpus).task == tasks.ANY:
        corpus = chosen.corpus  # also of the chapters on other tasks
    paths = [path for name in chapter or [] for path in context.find_chapters(name)]
    paths = paths or context.chapters_for(corpus or ("" if profile == "smoke" else chosen.corpus))
    for path in paths:
        context.check_root(
            context.corpus_of(path, profile, corpus, str(values.get("task", ""))), root
        )
    values |= {
        "profile": profile if profile in profiles.NAMES else str(Path(profile).resolve()),
        "corpus": corpus, "skip_bad": skip_bad,
        "root": str(Path(root).expanduser().resolve()) if root else "",
        "results": str((out / "results").resolve()),
    }
    from speechunlearn.chapters import grid  # which takes seconds to import

    if corpus:
        paths = grid.supported(paths, values, named=bool(chapter), on_progress=_say)
    grid.execute(
        paths, values, out.resolve(), jobs=jobs, evaluations=evaluations, profile_dir=profile_dir,
        on_progress=_say,
    )


@app.command(no_args_is_help=True)
def grid(
    file: Annotated[Path | None, typer.Argument(help="YAML or JSON file: name: value")] = None,
    config: Config = None,
    out: Annotated[Path, typer.Option(help="folder of results and logs")] = Path("runs"),
    jobs: Jobs = 1,
    profile_dir: ProfileDir = "local",
    processes: Annotated[int, typer.Option(help="processes, or GPUs, that train a model")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what is to be done")] = False,
) -> None:
    """Make every cell of a grid, each by a job of its own. Run it again to resume.

    For example:

        speechunlearn grid -C profile=smoke -C methods=[ran_lab,adv] --jobs 2 --out runs
    """
    from speechunlearn.chapters import grid as grids
    from speechunlearn.chapters import workflow

    provenance.need_checkout("speechunlearn grid")
    values = _values("-C", config)
    chosen = grids.Grid.of(values, file)
    if processes < 1:
        raise SpeechUnlearnError(f"processes: {processes} is not positive")
    plan = grids.of_grid(chosen)
    plan.processes = processes
    if dry_run:
        for name in plan.missing():
            typer.echo(plan.jobs[name]["title"])
        _say(f"{len(plan.missing())} of {len(plan.jobs)} jobs to be done")
        return
    out = out.resolve()
    workflow.execute(plan, out, jobs=jobs, profile_dir=profile_dir, on_progress=_say)
    for folder in grids.collect(chosen, out / "results"):
        _say(f"results: {folder}")


def _pairs(option: str, items: list[str] | None) -> dict[str, str]:
    """Return the texts of name=value options."""
    texts: dict[str, str] = {}
    for item in items or []:
        name, equals, text = item.partition("=")
        if not equals:
            raise SpeechUnlearnError(f"{option} {item[:200]!r} is not name=value")
        if name in texts:
            raise SpeechUnlearnError(f"{option} {name[:200]!r} is given twice")
        texts[name] = text
    return texts


def _values(option: str, items: list[str] | None) -> dict[str, Any]:
    """Return the values of name=value options."""
    from speechunlearn.chapters import context

    return {name: context.parse_value(text) for name, text in _pairs(option, items).items()}


@app.command()
def example(
    folder: Annotated[Path, typer.Argument(help="to make: a model, clips, CSVs, retrained models")],
    references: Annotated[int, typer.Option(help="models retrained without the clips")] = 3,
) -> None:
    """Make a small model, clips of synthetic voices and their CSVs, to try a request on.

    Then, inside the folder:

        speechunlearn forget --model model --forget forget.csv --unseen unseen.csv --out unlearned
    """
    from speechunlearn.chapters import context

    provenance.need_checkout("speechunlearn example")
    if folder.exists() and any(folder.iterdir()):
        raise SpeechUnlearnError(f"folder: {str(folder)!r} is not empty")
    if not 0 <= references <= 8:
        raise SpeechUnlearnError(f"references: {references} is not from 0 to 8")
    run = context.start("smoke", task="keyword")
    from speechunlearn.lab import example as examples
    from speechunlearn.lab import experiments

    study = run.study("validation")
    seed, forget_id = study.runs[0]
    folder.mkdir(parents=True, exist_ok=True)
    example = examples.write(
        study, experiments.ranked_forget_set(study, forget_id), seed, folder,
        references=range(references),
    )
    _say(f"cd {shlex.quote(str(folder))}")
    _say(
        f"speechunlearn forget --model {example.model} --forget {example.forget} "
        f"--unseen {example.unseen} "
        f"{' '.join(f'--reference {name}' for name in example.references)} --out unlearned"
    )


@app.command(name="methods")
def list_methods() -> None:
    """List the methods: what each looks at, its hyperparameter, and whether `forget` can run it."""
    from speechunlearn import methods
    from speechunlearn.tool import defaults

    for name in sorted(methods.METHODS):
        method = methods.get(name)
        needs = ", ".join(sorted(method.needs)) or "nothing but the recipe"
        runs = "" if defaults.usable(name) else "; not by `forget`"
        what = method.hyperparameter or method.untuned
        typer.echo(f"{name}: {method.title}; data used: {needs}; {what}{runs}")


@app.command()
def leaderboard(
    corpus: Annotated[str, typer.Argument(help="part of its name; all without it")] = "",
    out: OfRun = None,
) -> None:
    """Print leaderboards, the committed or a run's: both distances from retraining, what is kept.

    For example:

        speechunlearn leaderboard csv --out runs/mine
    """
    import pandas as pd

    from speechunlearn.lab import leaderboard as boards

    if out is None:
        provenance.need_checkout("speechunlearn leaderboard without --out")
    folder = boards.FOLDER if out is None else out / "results" / "leaderboard"
    known = sorted(folder.glob("*/ranking.csv"))
    rankings = [path for path in known if corpus in path.parent.name]
    if not known:
        raise SpeechUnlearnError(f"no leaderboard in {str(folder)!r}: chapter 10 writes it")
    if not rankings:
        names = ", ".join(path.parent.name for path in known)
        raise SpeechUnlearnError(f"corpus: {corpus!r} is in no leaderboard's name: {names}")
    columns = ["method", "needs", "gap", "forgetting", "utility", "relative_utility", "changed",
               "cards_passed", "cards", "runs"]
    about = "" if out else ", development results of a reduced variant"
    for path in rankings:
        typer.echo(f"{path.parent.name}{about}: {path}")
        table = pd.read_csv(path, dtype={"needs": str})[columns].fillna({"needs": ""})
        typer.echo(table.to_string(index=False, float_format="%.3f") + "\n")


@app.command()
def forget(
    model: Model,
    forget: Forget,
    out: Annotated[Path, typer.Option(help="folder to make: checkpoint, report, model card")],
    retain: Retain = None,
    unseen: Unseen = None,
    references: References = None,
    method: Method = None,
    parameter: Items = None,
    seed: Seed = 0,
    fast: Quick = False,
    whole_speakers: Annotated[
        bool, typer.Option(help="the clips are all that the model heard of their speakers")
    ] = False,
    root: Root = None,
    allow_outside: Outside = False,
    require: Require = False,
) -> None:
    """Ask a model to forget clips: a new checkpoint with a report. Run it again to resume.

    For example:

        speechunlearn forget --model my-model --forget clips.csv --unseen unseen.csv --out unlearned
    """
    done = tool.forget(
        model, forget, out, retain=retain, unseen=unseen, references=references or [],
        method=method, parameters=_values("-p", parameter), seed=seed, root=root,
        allow_outside=allow_outside, fast=fast, whole_speakers=whole_speakers, on_progress=_say,
    )
    typer.echo(done.summary())
    _say(f"written: {done.out}")
    _require(require, done.verdict)


@app.command()
def ledger(
    file: Annotated[
        Path,
        typer.Argument(help="CSV: id, forget[, retain, unseen, method, seed, whole_speakers]"),
    ],
    model: Model,
    out: Annotated[Path, typer.Option(help="folder; each request gets one of its id inside")],
    root: Root = None,
    allow_outside: Outside = False,
    prune: Annotated[bool, typer.Option("--prune", help="remove superseded weights")] = False,
) -> None:
    """Do deletion requests in order, each on the model the one before left. Resumable.

    The exit status is 1 if a request failed. For example:

        speechunlearn ledger requests.csv --model my-model --out requests
    """
    from speechunlearn.tool import ledger as requests

    table = requests.run(
        model, file, out, root=root, allow_outside=allow_outside, prune=prune, on_progress=_say
    )
    typer.echo(table[["id", "status", "verdict", "reason"]].to_string(index=False))
    for row in table[table["status"] == "done"].itertuples():
        typer.echo(f"{row.id}: {row.verdict}: {row.why}")
    if (table["status"] == "failed").any():
        raise typer.Exit(1)


@app.command()
def clear(
    out: Annotated[Path, typer.Argument(help="folder of a request, or of a ledger")],
) -> None:
    """Remove what a stopped request has kept to go on with; results and records stay."""
    from speechunlearn.tool import output_folder

    for folder in output_folder.give_up(output_folder.path("out", out)):
        _say(f"removed: {folder}")


@app.command()
def protect(
    clips: Annotated[Path, typer.Option(help=f"recordings to protect: {_CSV}")],
    key: Annotated[Path, typer.Option(help="JSON file of the key; keep it, and to yourself")],
    out: Annotated[Path, typer.Option(help="folder to make: the protected files, their record")],
    new_key: Annotated[bool, typer.Option("--new-key", help="make the key, of these classes")]
    = False,
    parameter: Items = None,
    root: Root = None,
) -> None:
    """Blur a short patch of recordings, by class and key, before they are published.

    A model that is trained on them learns the blur in place of the class, as far as chapter 13
    says. Run it again to resume. A new key takes -p patch_seconds, taps and blur. For example:

        speechunlearn protect --clips clips.csv --key my.key --new-key --out protected
    """
    from speechunlearn.corpora.csv import read_table
    from speechunlearn.dataset import protection
    from speechunlearn.tool import recordings

    values = _values("-p", parameter)
    if values and not new_key:
        raise SpeechUnlearnError(f"-p {next(iter(values))}=...: of a new key alone: --new-key")
    if key.absolute().resolve().is_relative_to(out.absolute().resolve()):
        raise SpeechUnlearnError(f"key: {str(key)!r} lies in the folder to publish")
    if new_key:
        classes = list(read_table(clips, ("path", "label"))["label"])
        secret_key = protection.new_key(key, classes, **values)
    else:
        secret_key = protection.read_key(key)
    try:
        record = recordings.protect_files(clips, secret_key, out, root=root, on_progress=_say)
    except SpeechUnlearnError:
        if new_key and not out.exists():  # refused before the work: the same command can be given
            key.unlink()
        raise
    _say(f"{len(record)} clips protected: {out}; {recordings.RECORD} lists them")


@app.command()
def cost(
    model: Model,
    forget: Forget,
    retain: Retain = None,
    method: Method = None,
    parameter: Items = None,
    retrain_epochs: Epochs = None,
    seed: Seed = 0,
    fast: Quick = False,
    root: Root = None,
    allow_outside: Outside = False,
    budget: Annotated[float, typer.Option(help="seconds that the calibration should take")] = 20.0,
) -> None:
    """Predict what `forget` will take on this machine, at most, from a short calibration.

    For example:

        speechunlearn cost --model my-model --forget clips.csv --retrain-epochs 20 --retain rest.csv
    """
    plan = tool.forecast(
        model, forget, retain=retain, method=method, parameters=_values("-p", parameter),
        retrain_epochs=retrain_epochs, seed=seed, root=root, allow_outside=allow_outside,
        fast=fast, budget=budget,
    )
    typer.echo(plan.summary())


@app.command()
def audit(
    model: Model,
    forget: Forget,
    unseen: Unseen = None,
    retain: Retain = None,
    references: References = None,
    original: Annotated[str | None, typer.Option(help="the model before unlearning")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for report.html, report.json")] = None,
    seed: Seed = 0,
    root: Root = None,
    allow_outside: Outside = False,
    require: Require = False,
) -> None:
    """Judge a model that is said to have forgotten clips.

    For example:

        speechunlearn audit --model unlearned --original my-model --forget clips.csv
        --unseen unseen.csv --reference retrained-0 --reference retrained-1 --out report
    """
    done = tool.audit(
        model, forget, unseen=unseen, retain=retain, references=references or [],
        original=original, out=out, seed=seed, root=root, allow_outside=allow_outside,
    )
    typer.echo(done.summary())
    if out is not None:
        _say(f"written: {out}")
    _require(require, done.verdict)


def _require(asked: bool, verdict: str) -> None:
    """End with status 3 where a verdict is asked for that is not there."""
    from speechunlearn.tool import verdicts

    if asked and verdict != verdicts.LIKE:
        _say(f"speechunlearn: required: {verdicts.LIKE}; it is: {verdict}")
        raise typer.Exit(3)


@app.command()
def results(
    out: OfRun = None,
    format: Annotated[str, typer.Option(help="summary, table, csv or parquet")] = "summary",
    corpus: Annotated[str, typer.Option(help="this corpus alone")] = "",
    method: Annotated[str, typer.Option(help="this method alone")] = "",
    metric: Annotated[str, typer.Option(help="this metric alone")] = "",
) -> None:
    """Print a summary of the results, or all as tidy rows.

    For example:

        speechunlearn results --corpus ravdess --method adv

        speechunlearn results --format csv > results.csv
    """
    from speechunlearn.lab import results as protocol

    if format not in ("summary", "table", "csv", "parquet"):
        raise SpeechUnlearnError(f"format: {format!r} is not summary, table, csv or parquet")
    if out is None:
        provenance.need_checkout("speechunlearn results without --out")
    rows = protocol.all_rows(protocol.COMMITTED if out is None else out / "results")
    for column, value in {"corpus": corpus, "method": method, "metric": metric}.items():
        if value and value not in set(rows[column]):
            known = ", ".join(sorted(set(rows[column])))
            raise SpeechUnlearnError(f"{column}: {value!r} is not in these results: {known}")
        rows = rows[rows[column] == value] if value else rows
    if format == "csv":
        typer.echo(rows.to_csv(index=False), nl=False)
        return
    if format == "parquet":
        rows.to_parquet(sys.stdout.buffer, index=False)
        return
    columns = ["profile", "corpus", "setting", "method", "n_forget", "tau", "seed", "forget_id",
               "split", "metric", "value", "seconds"]
    if format == "summary":
        columns = ["profile", "corpus", "task", "setting", "method", "n_forget", "split", "metric"]
        about = rows[["corpus", "corpus_hash"]].astype(str)
        rows = rows.assign(corpus=list(map(protocol.named, *about.to_dict("list").values())))
        shown = rows[rows["variant"].fillna("") == ""]
        shown = shown if metric else shown[shown["metric"] == "uar"]
        groups = shown.groupby(columns, sort=False)["value"]
        rows = groups.agg(["mean", "min", "max", "count"]).reset_index()
        columns = list(rows)
    typer.echo(rows[columns].to_string(index=False, float_format="%.3f"))


@app.command()
def rows(
    table: Annotated[str, typer.Argument(help="its place below data/")],
    values: Annotated[list[str] | None, typer.Argument(help="COLUMN=VALUE, of the rows")] = None,
) -> None:
    """Print rows of a committed table as CSV, and the command that makes the table anew.

    For example:

        speechunlearn rows pools/cpu-ravdess-nano-pretrained/scored method=delete
    """
    from speechunlearn.lab import committed_tables

    provenance.need_checkout("speechunlearn rows")
    chosen = committed_tables.rows(table, _pairs("rows", values))
    typer.echo(chosen.to_csv(index=False), nl=False)
    command = committed_tables.command(table.removesuffix(".csv"))
    _say(f"rows: {len(chosen)}; made by: {command}")


def _escaped(match: re.Match[str]) -> str:
    """Return a control character as Python writes it: a message may cite anyone's file."""
    return match[0] if match[0] == "\n" else repr(match[0])[1:-1]


def main() -> None:
    """Run the command line; what a user got wrong ends with its message and status 2."""
    try:
        with lack_is_told():
            app()
    except (SpeechUnlearnError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(f"speechunlearn: {CONTROL.sub(_escaped, str(error))}")
        sys.exit(2)


if __name__ == "__main__":
    main()
