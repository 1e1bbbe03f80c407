"""The registry of corpora: every reader gives the same manifest.

A new corpus is one new file beside this one, which defines a
:class:`~speechunlearn.corpora.base.Corpus`. Another package adds one by an entry point of the group
``speechunlearn.corpora`` that leads to it.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from speechunlearn import registry
from speechunlearn.corpora.base import COLUMNS, SPLITS, Corpus, build_manifest, card
from speechunlearn.errors import CorpusError, require

__all__ = ["COLUMNS", "SPLITS", "Corpus", "card", "get", "known", "read_manifest"]


@cache
def known() -> dict[str, Corpus]:
    """All corpora that have a reader, by name.

    Returns:
        name -> corpus, sorted

    Raises:
        RegistryError: one that another package adds, and that cannot be used
    """
    return dict(sorted(registry.found(__name__, Corpus).items()))


def get(name: str) -> Corpus:
    """The corpus of a name.

    Args:
        name: one of :func:`known`

    Returns:
        the corpus

    Raises:
        CorpusError: if no corpus has that name
    """
    corpora = known()
    known_ones = ", ".join(corpora)
    require(name in corpora, f"unknown corpus {name!r}; known: {known_ones}", CorpusError)
    return corpora[name]


def read_manifest(
    name: str, root: Path | str | None = None, skip_bad: bool = False
) -> pd.DataFrame:
    """Read a corpus, check every clip, and return its manifest.

    Args:
        name: one of :func:`known`
        root: folder of the corpus, or the CSV file for ``"csv"``;
            ``None`` takes the corpus's default folder, if it has one
        skip_bad: leave bad clips out and list them, instead of raising

    Returns:
        manifest, sorted by path, with index 0 to n-1 and the columns
        ``path`` (absolute), ``speaker``, ``gender`` (``"female"``, ``"male"`` or ``""``),
        ``label``, ``seconds`` (of the original file), ``corpus``,
        ``hash`` (of the content, see :func:`~speechunlearn.corpora.base.content_hash`) and
        ``split`` (``"train"``, ``"validation"``, ``"test"``, or ``""`` where none is given).
        ``attrs["skipped"]`` lists the (path, reason) of each clip left out

    Raises:
        CorpusError: if the corpus is unknown, missing, empty, or deviates from
            what it should hold; if a clip is bad and ``skip_bad`` is false;
            if a label has one speaker only, unless the labels are the speakers
    """
    corpus = get(name)
    if corpus.table is not None:
        return corpus.table()
    root = corpus.default_root if root is None else Path(root)
    if root is None:
        raise CorpusError(f"corpus {name!r} needs a root; {corpus.how_to_get}")
    return build_manifest(corpus, root, skip_bad)
