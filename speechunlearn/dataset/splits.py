"""Cuts of a manifest: into speaker-independent parts, and into forget and retain set."""

import hashlib
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from speechunlearn.corpora.base import SPLITS
from speechunlearn.errors import CorpusError, require

FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}
_CANDIDATES = 4096  # of each kind; more make no visible difference for 20 to 240 speakers


def speaker_split(
    manifest: pd.DataFrame, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0
) -> pd.DataFrame:
    """Split a manifest so that no speaker and no content is in two parts.

    Speakers that share content (clips of equal hash) are kept together. Of many random
    assignments of speakers to parts, the one is taken that deviates least from the fractions,

    .. math:: mean_{p,c} ((n_{pc} / n_c - f_p) / f_p)^2 + mean_{p,g} ((n_{pg} / n_g - f_p) / f_p)^2

    where :math:`n_{pc}` of the :math:`n_c` clips of class c are in part p, whose fraction is
    :math:`f_p`, and likewise for the genders g, where known.

    Args:
        manifest: clips; a split they already have is replaced
        fractions: part -> fraction of the clips; parts are ``"train"`` and at least one of
            ``"validation"`` and ``"test"``
        seed: seed of the random assignments

    Returns:
        copy of the manifest with the new column ``split``

    Raises:
        ParameterError: if the fractions are not positive, do not sum to 1, or
            have unknown parts or no training part
        CorpusError: if there are fewer speakers than parts, or a label would be
            missing from the training part
    """
    parts = _check_fractions(fractions)
    shares = np.array([fractions[part] for part in parts])
    groups = _speaker_groups(manifest)
    n, n_parts = groups.nunique(), f"{len(parts)} parts ({', '.join(parts)})"
    told = f"{n} speaker(s) cannot be split into {n_parts}; speakers who share clips count as one"
    require(n >= len(parts), told, CorpusError)
    group_of_clip = manifest["speaker"].map(groups)
    labels = pd.crosstab(group_of_clip, manifest["label"])
    genders = pd.crosstab(group_of_clip, manifest["gender"]).drop(columns="", errors="ignore")

    rng = np.random.default_rng(seed)
    sizes = labels.to_numpy().sum(axis=1)
    # [candidates, groups]: the part of each group
    assignments = np.concatenate(
        [_assign_by_clips(sizes, shares, rng), _assign_by_speakers(len(sizes), shares, rng)]
    )
    label_counts = _count(assignments, labels.to_numpy(), len(parts))
    score = _deviation(label_counts, shares)
    if genders.shape[1]:
        score += _deviation(_count(assignments, genders.to_numpy(), len(parts)), shares)
    empty = (label_counts.sum(axis=2) == 0).any(axis=1)
    untrained = (label_counts[:, parts.index("train")] == 0).sum(axis=1)
    score = np.where(empty, np.inf, score + untrained * 1e6)
    best = int(np.argmin(score))
    missing = labels.columns[label_counts[best, parts.index("train")] == 0]
    told = f"label(s) {', '.join(map(repr, missing))} missing from the training part:"
    require(missing.empty, f"{told} too few speakers for fractions {dict(fractions)}", CorpusError)
    part_of_group = dict(zip(labels.index, np.array(parts)[assignments[best]], strict=True))
    return manifest.assign(split=group_of_clip.map(part_of_group))


def random_forget_set(
    manifest_train: pd.DataFrame, n: int, forget_id: int | str, seed: int = 0,
    exclude: Collection[str] = frozenset(),
) -> list[str]:
    """Draw the contents to forget, uniformly at random without replacement.

    They are nested: with the same clips, ``forget_id`` and ``seed``, the first 10 of
    100 hashes are those of the set of 10. Excluding hashes takes them out of
    the order without changing it.

    Args:
        manifest_train: the training clips
        n: number of contents; a content that occurs twice counts once
        forget_id: number or name of the set, such as ``"development"``
        seed: seed of all random forget sets
        exclude: hashes that must not be drawn, such as those of the development forget set

    Returns:
        n content hashes

    Raises:
        ParameterError: if n is not in 1 to the number of contents that can be drawn
    """
    hashes = np.unique(manifest_train["hash"].to_numpy(dtype=str))
    order = np.random.default_rng(_stable_entropy(seed, forget_id)).permutation(hashes)
    excluded = set(exclude)
    pool = [str(value) for value in order if value not in excluded]
    most, there = len(pool), len(hashes)
    require(
        1 <= n <= most, f"n={n} clips to forget, but it must be in 1 to {most}: the training set "
        f"has {there} different clips, {there - most} of them excluded",
    )
    return pool[:n]


def _check_fractions(fractions: Mapping[str, float]) -> list[str]:
    """The parts in the order of SPLITS, so that the order of the mapping has no effect."""
    for part in fractions:
        require(part in SPLITS, f"fractions has unknown part {part!r}; known: {SPLITS}")
    shares, two = dict(fractions), "train" in fractions and len(fractions) > 1
    require(two, f"fractions needs 'train' and another part, not {shares}")
    require(min(shares.values()) > 0, f"fractions must be positive, not {shares}")
    total = sum(shares.values())
    require(abs(total - 1) <= 1e-6, f"fractions must sum to 1, not {total:g}: {shares}")
    return [part for part in SPLITS if part in fractions]


def _speaker_groups(manifest: pd.DataFrame) -> pd.Series:
    """Speaker -> first speaker of the group that must stay together (union-find)."""
    parent = {speaker: speaker for speaker in sorted(manifest["speaker"].unique())}

    def root(speaker: str) -> str:
        while parent[speaker] != speaker:
            speaker = parent[speaker]
        return speaker

    for speakers in manifest.groupby("hash")["speaker"].unique():
        for speaker in speakers[1:]:
            first, second = sorted((root(speakers[0]), root(speaker)))
            parent[second] = first
    return pd.Series({speaker: root(speaker) for speaker in parent})


def _permutations(groups: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permuted(np.tile(np.arange(groups), (_CANDIDATES, 1)), axis=1)


def _assign_by_clips(sizes: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut random orders of the groups where the number of clips reaches the fractions.

    A part may stay empty.
    """
    order = _permutations(len(sizes), rng)
    middle = np.cumsum(sizes[order], axis=1) - sizes[order] / 2
    part = np.searchsorted(np.cumsum(shares)[:-1], middle / sizes.sum())
    assignments = np.empty_like(order)
    np.put_along_axis(assignments, order, part, axis=1)
    return assignments


def _assign_by_speakers(groups: int, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each part its fraction of the groups, and at least one."""
    number = np.ones(len(shares), dtype=int)
    while number.sum() < groups:
        number[np.argmax(shares * groups - number)] += 1
    return np.repeat(np.arange(len(shares)), number)[_permutations(groups, rng)]


def _count(assignments: np.ndarray, counts: np.ndarray, parts: int) -> np.ndarray:
    """[candidates, groups] and [groups, classes] -> clips [candidates, parts, classes]."""
    # Matrix products of floats run in BLAS, those of integers do not.
    counts = counts.astype(float)
    return np.stack([(assignments == part).astype(float) @ counts for part in range(parts)], axis=1)


def _deviation(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean squared relative deviation from the fractions, per candidate."""
    reached = counts / counts.sum(axis=1, keepdims=True)
    aim = shares[:, None]
    return (((reached - aim) / aim) ** 2).mean(axis=(1, 2))


def _stable_entropy(seed: int, forget_id: int | str) -> np.random.SeedSequence:
    """Python's own hash of a text changes from process to process."""
    digest = hashlib.sha256(f"{seed}:{forget_id}".encode()).digest()
    return np.random.SeedSequence(int.from_bytes(digest, "big"))
