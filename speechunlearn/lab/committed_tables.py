"""The tables that the repository holds, as they stand there, and what makes each anew."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from speechunlearn.errors import ParameterError
from speechunlearn.lab.results import COMMITTED

DATA = COMMITTED.parent

_RUN = "--profile cpu --corpus CORPUS --root PATH -p results=OUT"
_TABLE1 = "python -m benchmarks.table1 run --root PATH --runs FOLD,REPEAT"
#: the folder of `DATA` that a table lies in, with its name or without -> what makes it
COMMANDS = {
    "pools/scored": "python -m benchmarks.judged score FOLDER --root PATH",
    "pools/tuned": "python -m benchmarks.judged tune FOLDER --root PATH",
    "pools/judged": "python -m benchmarks.judged show FOLDER",
    "pools/curves": "python -m benchmarks.judged show FOLDER",
    "benchmarks/protection_mos": "python -m benchmarks.protection --mos",
    "benchmarks/protect_files": "python -m benchmarks.protection --files 1000",
    "table1/tuned": "python -m benchmarks.table1 tune --root PATH",
    "table1/test": f"{_TABLE1} --setting test",
    "table1/variant": f"{_TABLE1} --learning-rate 3e-5",
    "table1/figure": "python -m benchmarks.table1 figure --root PATH",
    "table1/table": "python -m benchmarks.table1 show",
    "table1/claims": "python -m benchmarks.table1 show",
    "table1": _TABLE1,
    "benchmarks": "python -m benchmarks.NAME",
    "leaderboard": f"speechunlearn run 10 {_RUN}",
    "pools": "python -m benchmarks.pool",
    "results": f"speechunlearn run {_RUN}",
    "tuning": f"speechunlearn run 10 {_RUN}",
}


def names() -> list[str]:
    """Return the names of all tables: where each lies below `DATA`, without ``.csv``."""
    files = sorted(DATA.rglob("*.csv"))
    places = [file.relative_to(DATA).with_suffix("").as_posix() for file in files]
    return [place for place in places if place.split("/")[0] in COMMANDS]


def command(name: str) -> str:
    """Return the command that makes a table anew; ``--help`` lists its options.

    Args:
        name: of `names`, or of a folder of tables

    Examples:
        >>> command("pools/cpu-ravdess-nano/judged")
        'python -m benchmarks.judged show data/pools/cpu-ravdess-nano'
        >>> command("tuning/cpu-a-speaker")
        'speechunlearn run 10 --profile cpu --corpus a --root PATH -p results=OUT -p task=speaker'
        >>> command("table1/tuned"), command("table1/claims")
        ('python -m benchmarks.table1 tune --root PATH', 'python -m benchmarks.table1 show')

    """
    kind, place, *_ = parts = name.split("/")
    text = COMMANDS.get(f"{kind}/{parts[-1]}") or COMMANDS[kind]
    _, corpus, task = [*place.split("-"), "", ""][:3]
    if task and kind in ("leaderboard", "tuning"):
        text += f" -p task={task}"
    filled = {"FOLDER": f"data/{kind}/{place}", "NAME": parts[-1], "CORPUS": corpus}
    for word, value in filled.items():
        text = text.replace(word, value)
    return text


def rows(name: str, values: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of a table that have some values, every cell as the text that it is.

    Args:
        name: of `names`; ``.csv`` may follow
        values: by column

    Raises:
        ParameterError: no such table, column or value; the message lists what there is

    """
    name = name.removesuffix(".csv")
    if name not in (known := names()):
        near = [place for place in known if name in place]
        raise ParameterError(f"no table {name!r}; there is {', '.join(near or known)}")
    table = pd.read_csv(DATA / f"{name}.csv", dtype=str, keep_default_na=False)
    for column, value in values.items():
        if column not in table:
            raise ParameterError(f"{name} has no column {column!r}; it has {', '.join(table)}")
        there = sorted(set(table[column]))
        if value not in there:
            raise ParameterError(f"{column}: {value!r} is not in {name}: {', '.join(there)}")
        table = table[table[column] == value]
    return table
