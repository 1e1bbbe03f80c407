"""The command line: corpora, download, manifest, run, results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from speechunlearn.errors import SpeechUnlearnError

app = typer.Typer(
    help="Make trained speech models forget, and check that they did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    corpus: Annotated[str, typer.Argument(help="name of a reader, see `speechunlearn corpora`")],
    root: Annotated[Path, typer.Option(help="folder to make")],
    version: Annotated[str | None, typer.Option(help="the usual one without it")] = None,
) -> None:
    """Download a corpus, check its hash, unpack it. Run it again after an interruption."""
    from speechunlearn import corpora as registry
    from speechunlearn.corpora.download import download as fetch

    where = fetch(registry.get(corpus), root, version)
    typer.echo(f"{where}: read it with speechunlearn manifest {corpus} --root {root}", err=True)


@app.command()
def manifest(
    corpus: Annotated[str, typer.Argument(help="name of a reader, see `speechunlearn corpora`")],
    root: Annotated[Path | None, typer.Option(help="folder; for csv, the CSV file")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write; the screen without it")] = None,
    skip_bad: Annotated[bool, typer.Option(help="list and leave out clips that are bad")] = False,
) -> None:
    """Read and check every clip of a corpus and write its manifest as CSV."""
    from speechunlearn import corpora as registry

    if out is not None and not out.resolve().parent.is_dir():
        raise SpeechUnlearnError(f"out: the folder of {str(out)!r} does not exist")
    table = registry.read_manifest(corpus, root, skip_bad)
    for path, reason in table.attrs.get("skipped", []):
        typer.echo(f"left out: {path}: {reason}", err=True)
    if out is None:
        typer.echo(table.to_csv(index=False), nl=False)
    else:
        table.to_csv(out, index=False)
        typer.echo(
            f"{len(table)} clips of {table['speaker'].nunique()} speakers: {out}", err=True
        )


@app.command()
def run(
    chapter: Annotated[
        list[str] | None, typer.Argument(help="numbers or names; all without it")
    ] = None,
    profile: Annotated[str, typer.Option(help="smoke, cpu or paper")] = "smoke",
    corpus: Annotated[str, typer.Option(help="name of a reader; the profile's without it")] = "",
    root: Annotated[str, typer.Option(help="the corpus's folder, or the CSV")] = "",
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value, may be repeated")
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="leave out clips that are bad")] = False,
    out: Annotated[Path, typer.Option(help="folder of notebooks and results")] = Path("runs"),
    jobs: Annotated[int, typer.Option(help="chapters at a time")] = 1,
) -> None:
    """Run chapters with your parameters. Finished work is found again: run it twice to resume."""
    from speechunlearn import corpora as registry
    from speechunlearn import profiles, runs

    values = {}
    for item in parameter or []:
        name, equals, text = item.partition("=")
        if not equals:
            raise SpeechUnlearnError(f"-p {item!r} is not name=value")
        values[name] = runs.parse_value(text)
    chosen = profiles.get(profile)
    if chapter:
        paths = [runs.find_chapter(wanted) for wanted in chapter]
    else:
        paths = runs.chapters_for(corpus or ("" if profile == "smoke" else chosen.corpus))
    for path in paths:
        name = runs.corpus_of(path, profile, corpus)
        reader = registry.get(name)
        where = Path(root).expanduser() if root else reader.default_root
        if where is None and reader.table is None:
            raise SpeechUnlearnError(
                f"corpus {name!r} needs --root; to get it: {reader.how_to_get}"
            )
        if where is not None and not where.exists():
            raise SpeechUnlearnError(f"root: {str(where)!r} does not exist")
    values |= {
        "profile": profile, "corpus": corpus, "skip_bad": skip_bad,
        "root": str(Path(root).expanduser().resolve()) if root else "",
        "results": str((out / "results").resolve()),
    }
    runs.execute(
        paths, values, out.resolve(), jobs=jobs, say=lambda text: typer.echo(text, err=True)
    )


@app.command()
def results(
    out: Annotated[
        Path | None, typer.Option(help="folder of a run; the committed tables without it")
    ] = None,
    format: Annotated[str, typer.Option(help="table, csv or parquet")] = "table",
) -> None:
    """Print the results as tidy rows."""
    import pandas as pd

    from speechunlearn import results as protocol
    from speechunlearn.errors import ParameterError

    if format not in ("table", "csv", "parquet"):
        raise ParameterError(f"format: {format!r} is not table, csv or parquet")
    if out is None:
        rows = protocol.all_committed()
    else:
        folders = sorted(p.parent for p in (out / "results").glob("*/cells.csv"))
        if not folders:
            raise ParameterError(f"out: no results below {str(out)!r}")
        rows = pd.concat([protocol.Results.read(f).rows() for f in folders], ignore_index=True)
    if format == "table":
        columns = ["profile", "corpus", "setting", "method", "n_forget", "tau", "seed", "draw"]
        columns += ["split", "metric", "value", "seconds"]
        typer.echo(rows[columns].to_string(index=False, float_format="%.3f"))
    elif format == "csv":
        typer.echo(rows.to_csv(index=False), nl=False)
    else:
        rows.to_parquet(sys.stdout.buffer, index=False)


def main() -> None:
    """Run the command line; what a user got wrong ends with its message and status 2."""
    try:
        app()
    except SpeechUnlearnError as error:
        typer.echo(f"speechunlearn: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
