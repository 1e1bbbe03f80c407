"""A pool of models: each trained without a random half of some disjoint forget sets.

A model is an *original* for the sets that it heard, and a *retrained reference* for those that it
did not: so M trainings give each set about M/2 of both, and the shadow models of a likelihood-ratio
attack. Which model hears which set is a balanced design, drawn by a seed before anything is
trained. Some clips of training speakers are heard by no model: non-members, beside unseen speakers.

A pool's folder holds ``design.json`` (sets and inclusion), ``clips.csv`` (what each clip is in the
pool) and ``model-NN.npz`` (what a model says of every clip, what it heard, what it cost). Committed
ones lie in ``data/pools/``. `benchmarks.pool` makes one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score

from speechunlearn import methods, provenance, schema
from speechunlearn.audit import metrics
from speechunlearn.audit import predictions as per_clip
from speechunlearn.cache import Cache
from speechunlearn.errors import ParameterError
from speechunlearn.files import replaced
from speechunlearn.lab import forget_sets
from speechunlearn.lab.forget_sets import DEVELOPMENT, ForgetSet
from speechunlearn.lab.study import Study
from speechunlearn.methods import importance
from speechunlearn.models import classifier, training
from speechunlearn.models.classifier import Classifier

FOLDER = provenance.REPOSITORY / "data" / "pools"

#: so many first models are a balanced pool of their own
FIRST = 12

#: what to strike from the name of a file to have that of its utterance, whatever the take; in
#: other corpora, clips of one speaker and label are takes of one utterance
_TAKE = {"ravdess": r"-\d\d(?=-\d\d$)", "demos": r"[a-z]$", "embedded": r"[a-z]$"}
_COLUMN = {"clips": "hash", "takes": "utterance", "speaker": "speaker", "class": "label"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ITEM = re.compile(r"(dev:)?(clips|takes|speaker|class):(0?\.\d+|[1-9]\d*)(?:x([1-9]\d*))?")


@dataclass(frozen=True)
class PoolSet:
    """A forget set of a pool.

    Args:
        name: unique, e.g. ``clips 10 b`` or ``speaker 07``
        kind: ``clips`` (random), ``takes`` (every take of some utterances), ``speaker``, ``class``
        development: something may be chosen on it, and nothing is reported
        hashes: contents of its clips

    """

    name: str
    kind: str
    development: bool
    hashes: tuple[str, ...]

    @property
    def forget_set(self) -> ForgetSet:
        """The set as a request to a study."""
        return forget_sets.listed(self.name, self.hashes)


@dataclass(frozen=True)
class Design:
    """Who hears what.

    Args:
        study: of `Study.description`, without the corpus's place
        corpus_hash: of the study
        labels: class names, in the order of the logits
        seed: of the sets, of the inclusion and, times 1000, of the first model's training
        sets: disjoint forget sets
        spare: contents that no model hears, of speakers that every model hears
        left_out: contents that no model hears because they lie in two whole speakers or classes
        inclusion: a text of 0 and 1 for each model: whether it hears each set

    """

    study: dict[str, Any]
    corpus_hash: str
    labels: tuple[str, ...]
    seed: int
    sets: tuple[PoolSet, ...]
    spare: tuple[str, ...]
    left_out: tuple[str, ...]
    inclusion: tuple[str, ...]

    def __post_init__(self) -> None:
        taken: set[str] = set()
        parts = {s.name: s.hashes for s in self.sets}
        for name, hashes in (parts | {"spare": self.spare, "left out": self.left_out}).items():
            if len(set(hashes)) < len(hashes) or taken & set(hashes):
                raise ParameterError(f"pool: {name!r} shares a clip with another set")
            taken |= set(hashes)

    @cached_property
    def heard(self) -> Int[np.ndarray, "models sets"]:
        """1 where a model hears a set."""
        return np.array([[int(c) for c in row] for row in self.inclusion], dtype=int)

    @cached_property
    def digest(self) -> str:
        """What tells this design from any other."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def of(self, name: str) -> int:
        """Return the position of a set."""
        names = [s.name for s in self.sets]
        if name not in names:
            raise ParameterError(f"pool: no set {name!r}; it has {', '.join(names)}")
        return names.index(name)

    def absent(self, k: int) -> ForgetSet:
        """Return what model k does not hear of the training clips."""
        out = [s.hashes for s, heard in zip(self.sets, self.heard[k], strict=True) if not heard]
        return forget_sets.listed(
            f"what model {k} does not hear", [*sum(out, ()), *self.spare, *self.left_out]
        )

    def seed_of(self, k: int) -> int:
        """Return the training seed of model k."""
        return 1000 * self.seed + k


def balanced(models: int, sets: int, seed: int) -> Int[np.ndarray, "models sets"]:
    """Draw which models hear which sets: each set half of the models, in pairs as if independent.

    Half of the first `FIRST` models and half of the others, drawn at random; then swaps within a
    set are kept that bring :math:`\\sum_{i<j} r_{ij}^2` down, r the correlation of two columns over
    all models, and over the first.

    Args:
        models: two or more
        sets: one or more
        seed: of all draws

    Examples:
        >>> drawn = balanced(32, 16, 0)
        >>> set(drawn.sum(0).tolist()), set(drawn[:12].sum(0).tolist())
        ({16}, {6})

    """
    if models < 2 or sets < 1:
        raise ParameterError(f"pool: {models} models and {sets} sets: too few")
    rng = np.random.default_rng(seed)
    blocks = [np.arange(min(FIRST, models)), np.arange(FIRST, models)][: 1 + (models > FIRST)]
    signs = np.empty((models, sets), dtype=int)
    for j in range(sets):
        for b, block in enumerate(blocks):
            ones = (len(block) + (j + b) % 2) // 2
            signs[block, j] = rng.permutation(np.where(np.arange(len(block)) < ones, 1, -1))

    def worth() -> int:
        gram, first = signs.T @ signs, signs[blocks[0]].T @ signs[blocks[0]]
        return int((gram**2).sum() * len(blocks[0]) ** 2 + (first**2).sum() * models**2)

    best = worth()
    for _ in range(200 * sets):
        j, block = int(rng.integers(sets)), blocks[int(rng.integers(len(blocks)))]
        rows = rng.choice(block, 2, replace=False) if len(block) > 1 else block[[0, 0]]
        signs[rows, j] = signs[rows[::-1], j]
        now = worth()
        if now > best:
            signs[rows, j] = signs[rows[::-1], j]
        best = min(best, now)
    return (signs + 1) // 2


class _Item(NamedTuple):
    """One item of what sets are wanted."""

    position: int
    development: bool
    kind: str
    size: str
    times: int


def design(study: Study, asked: str, models: int, spare: int, seed: int) -> Design:
    """Draw a pool's sets and who hears them.

    Whole speakers and classes are drawn first, of those that have not less clips than the median.
    The other sets come from clips that no earlier forget set of this study holds (its development
    forget set and the draws of its pairs), those of development from the development forget set. A
    clip that lies in a whole speaker and in a whole class is left out of both, and no model hears
    it.

    Args:
        study: corpus, encoder and profile
        asked: items ``KIND:SIZE`` or ``KIND:SIZExCOUNT`` with blanks between them: ``clips`` of a
            size or a share of the training clips, ``takes`` of so many utterances, so many whole
            ``speaker`` or ``class`` in one set; ``dev:`` before it makes it a set of development
        models: number of models
        spare: number of clips that no model hears
        seed: of all draws

    Raises:
        ParameterError: an item that is none, or more than the training clips give

    """
    rng = np.random.default_rng([seed, 1])
    table = study.train_manifest.assign(utterance=_utterances(study))
    table = table.iloc[rng.permutation(len(table))]
    largest = max(study.sizes)
    tuned = set(study.hashes(forget_sets.clips(largest, DEVELOPMENT)))
    draws = [
        study.hashes(forget_sets.clips(largest, forget_id)) for _, forget_id in study.profile.runs
    ]
    looked_at = tuned.union(*draws)
    items = list(_items(asked, len(table)))
    if study.task.label == "speaker" and any(item.kind == "class" for item in items):
        raise ParameterError("sets: the classes of this task are speakers: ask for 'speaker'")
    drawn: list[tuple[int, PoolSet]] = []
    taken: set[str] = set()
    whole: dict[str, list[str]] = {"speaker": [], "class": []}
    for item in sorted(items, key=lambda item: (item.kind not in whole, item.kind == "clips")):
        if item.kind in whole:
            among = table
        else:
            fits = table["hash"].isin(tuned) if item.development else ~table["hash"].isin(looked_at)
            among = table[fits & ~table["hash"].isin(taken)]
        column = _COLUMN[item.kind]
        counts = among.groupby(column, sort=False).size()
        if item.kind == "takes":
            counts = counts[(counts > 1) & (counts == table[column].value_counts()[counts.index])]
        elif item.kind in whole:
            counts = counts[(counts >= counts.median()) & ~counts.index.isin(whole[item.kind])]
        n = int(item.size)
        for k in range(item.times):
            chosen = list(counts.index[k * n : (k + 1) * n])
            name = f"{item.kind} {n} {_LETTERS[k]}"
            if len(chosen) < n:
                raise ParameterError(f"sets: {len(chosen)} are left that {name!r} could hold")
            if item.kind in whole:
                whole[item.kind] += chosen
                name = f"{item.kind} {', '.join(sorted(chosen))}"
            hashes = tuple(sorted(among["hash"][among[column].isin(chosen)]))
            taken.update(hashes)
            name = f"development {name}" if item.development else name
            drawn.append((item.position, PoolSet(name, item.kind, item.development, hashes)))
    crossed = table["speaker"].isin(whole["speaker"]) & table["label"].isin(whole["class"])
    left_out = set(table["hash"][crossed])
    rest = table[~table["hash"].isin(taken) & ~table["speaker"].isin(whole["speaker"])]
    rest = rest.iloc[rest.groupby("speaker").cumcount().argsort(kind="stable")]
    if not 0 <= spare < len(rest):
        raise ParameterError(f"spare: {spare} clips, but {len(rest)} are in no set")
    sets = [
        replace(one, hashes=tuple(h for h in one.hashes if h not in left_out))
        for _, one in sorted(drawn, key=lambda pair: pair[0])
    ]
    return Design(
        {key: value for key, value in study.description.items() if key != "root"},
        study.corpus_hash, study.labels, seed, tuple(sets), tuple(sorted(rest["hash"][:spare])),
        tuple(sorted(left_out)),
        tuple("".join(map(str, row)) for row in balanced(models, len(sets), seed)),
    )


def _items(asked: str, clips: int) -> Iterator[_Item]:
    if not asked.split():
        raise ParameterError("sets: there are none")
    for position, text in enumerate(asked.split()):
        item = _ITEM.fullmatch(text)
        if item is None or ("." in item[3] and item[2] != "clips"):
            raise ParameterError(f"sets: {text!r} is not KIND:SIZE or KIND:SIZExCOUNT, see --help")
        size = str(max(1, round(float(item[3]) * clips))) if "." in item[3] else item[3]
        count = int(item[4] or 1)
        if count > len(_LETTERS):
            raise ParameterError(f"sets: {text!r}: at most {len(_LETTERS)} of a kind and size")
        yield _Item(position, bool(item[1]), item[2], size, count)


def _utterances(study: Study) -> pd.Series:
    table = study.train_manifest
    if study.corpus.name not in _TAKE:
        said = table["cluster"] if study.task.label == "speaker" else table["label"]
        return table["speaker"] + "/" + said
    return table["path"].map(lambda path: re.sub(_TAKE[study.corpus.name], "", Path(path).stem))


def about_clips(study: Study, design: Design) -> pd.DataFrame:
    """Return what each clip is in a pool, in the order of a model's logits.

    Returns:
        the training clips, then the others: columns hash, speaker, label, unit, seconds, split,
        utterance (empty of unseen clips), and part: the name of a set, ``spare``, ``left out``,
        ``always`` (every model hears it) or ``unseen``

    """
    part = dict.fromkeys(design.spare, "spare") | dict.fromkeys(design.left_out, "left out")
    for one in design.sets:
        part |= dict.fromkeys(one.hashes, one.name)
    train = study.train_manifest.assign(utterance=_utterances(study))
    train["part"] = [part.get(h, "always") for h in train["hash"]]
    others = untrained(study).assign(utterance="", part="unseen")
    columns = ["hash", "speaker", "label", "cluster", "seconds", "split", "utterance", "part"]
    return pd.concat([train, others], ignore_index=True)[columns]


def untrained(study: Study) -> pd.DataFrame:
    """Return the manifest of the clips of every part that is not trained on, scored or not."""
    return study._rows(~study.manifest["split"].isin(study.train_splits))


def begin(study: Study, design: Design, folder: Path) -> None:
    """Write a pool's design, before anything is trained.

    Raises:
        ParameterError: the folder holds another pool

    """
    file = folder / "design.json"
    if file.is_file() and _design(file).digest != design.digest:
        raise ParameterError(f"out: {str(folder)!r} holds a pool of another design")
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / "clips.csv") as partial:
        about_clips(study, design).to_csv(partial, index=False)
    with replaced(file) as partial:
        partial.write_text(json.dumps(asdict(design), indent=1) + "\n")


def answer(study: Study, design: Design, k: int, folder: Path) -> Path:
    """Train model k, or find it, and write what it says of every clip; found work is kept.

    Raises:
        ParameterError: the model was trained on other clips than the design says

    """
    file = folder / f"model-{k:02d}.npz"
    if file.is_file():
        return file
    absent, seed = design.absent(k), design.seed_of(k)
    trained = study.cache.get(study.artefact("models", {"without": absent, "seed": seed}))
    card = json.loads((trained / "card.json").read_text())
    heard = ~study.train_manifest["hash"].isin(absent.names).to_numpy()
    listed = "\n".join(study.train_manifest["hash"][heard])
    if hashlib.sha256(listed.encode()).hexdigest()[:16] != card["specification"]["clips"]:
        raise ParameterError(f"pool: model {k} was trained on other clips than the design says")
    logits = logits_of(study.retrained(seed, absent), study)
    about = {key: card[key] for key in _CARD} | {
        "model": k, "seed": seed, "clips": int(heard.sum()), "design": design.digest,
        "training_loss": card["history"][-1], "protocol": provenance.protocol_hash(),
        "artefact": trained.name,
    }
    with replaced(file) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream, heard=heard, about=np.array(json.dumps(about, sort_keys=True)),
            logits=logits,
        )
    return file


def logits_of(model: Classifier, study: Study) -> Float[np.ndarray, "clips classes"]:
    """Return what a model says of every clip of `about_clips`, in half precision."""
    clips = {"train": study.train, "others": study._load(untrained(study))}
    logits = training.answers(model, clips)
    return np.concatenate([logits["train"], logits["others"]]).astype(np.float16)


_CARD = ("seconds", "peak_memory_mb", "forward_backward", "commit", "lock", "machine")


def request(
    study: Study, design: Design, k: int, name: str, needs: frozenset[str] = frozenset()
) -> methods.UnlearningData:
    """Return what a method may see to make model k forget a set.

    Raises:
        ParameterError: the model has not heard the set

    """
    position = design.of(name)
    if not design.heard[k, position]:
        raise ParameterError(f"pool: model {k} has not heard {name!r}: there is nothing to forget")
    absent = design.absent(k)
    data = study.unlearning_data(
        (absent, design.sets[position].forget_set), design.seed_of(k), needs
    )

    def statistic(model: Any) -> dict[str, Any]:
        clips = study.retain(absent)  # all that this model heard
        fisher = importance.estimate("fisher", model, clips, clips.labels, per="clip")
        assert fisher is not None
        return fisher

    return replace(data, statistic=statistic)


@dataclass(frozen=True)
class Pool:
    """What the models of a pool say; some may be missing, of a run that goes on.

    Args:
        design: who hears what
        clips: of `about_clips`
        models: number, seed, clips heard, cost and provenance of each model that is there
        logits: in the order of ``models`` and of ``clips``, in half precision

    """

    design: Design
    clips: pd.DataFrame
    models: pd.DataFrame
    logits: Float[np.ndarray, "models clips classes"]

    @classmethod
    def read(cls, folder: Path) -> Pool:
        """Read a pool's folder.

        Raises:
            ParameterError: no pool, a model of another design, or one that heard what it was to be
                without; the message names model and set

        """
        if not (folder / "design.json").is_file():
            raise ParameterError(f"no pool in {str(folder)!r}: it has no design.json")
        design = _design(folder / "design.json")
        text = dict.fromkeys(("hash", "speaker", "label", "cluster", "utterance", "part"), str)
        clips = pd.read_csv(folder / "clips.csv", dtype=text, keep_default_na=False)
        rows, logits = [], []
        for file in sorted(folder.glob("model-*.npz")):
            with np.load(file) as stored:
                row, heard = json.loads(str(stored["about"])), stored["heard"]
                logits.append(stored["logits"])
            if row["design"] != design.digest:
                raise ParameterError(f"pool: {file.name} is of another design")
            absent = clips["hash"][: len(heard)].isin(design.absent(row["model"]).names).to_numpy()
            if (heard == absent).any():
                clip = clips.iloc[int(np.flatnonzero(heard == absent)[0])]
                did = "heard" if heard[clip.name] else "did not hear"
                raise ParameterError(
                    f"pool: {file.name} {did} a clip of {clip['part']!r}, against its design"
                )
            rows.append(row)
            if row["protocol"] != rows[0]["protocol"]:
                raise ParameterError(
                    f"pool: {file.name} was answered under protocol {row['protocol']!r}, the first "
                    f"under {rows[0]['protocol']!r}"
                )
        if not rows:
            raise ParameterError(f"no model in {str(folder)!r}")
        return cls(design, clips, pd.DataFrame(rows), np.stack(logits))

    def originals(self, name: str) -> list[int]:
        """Return the models that heard a set, by their number."""
        heard = self.design.heard[:, self.design.of(name)]
        return [int(k) for k in self.models["model"] if heard[k]]

    def references(self, name: str) -> list[int]:
        """Return the models that were trained without a set, by their number."""
        heard = self.design.heard[:, self.design.of(name)]
        return [int(k) for k in self.models["model"] if not heard[k]]

    def model(self, k: int, cache: Cache) -> Classifier:
        """Load model k from where it was trained, also by a later version of the package.

        Raises:
            ParameterError: it is not there, or it is another model

        """
        row = self.models.set_index("model").loc[k]
        folder = cache.root / "models" / str(row["artefact"])
        if not (folder / "card.json").is_file():
            raise ParameterError(f"pool: model {k} is not in {str(folder)!r}")
        spec = json.loads((folder / "card.json").read_text())["specification"]
        if spec["seed"] != row["seed"] or spec["corpus_hash"] != self.design.corpus_hash:
            raise ParameterError(f"pool: {str(folder)!r} is not model {k}")
        return classifier.load(folder)

    def predictions(self, k: int, name: str) -> pd.DataFrame:
        """Return what model k says, as `speechunlearn.audit.predictions.table` has it.

        Its splits are ``forget`` (the set), ``retain`` (what every model of the pool hears, so that
        it is the same for all), ``spare`` and ``unseen``.
        """
        return self.table(self.logits[self.models["model"].tolist().index(k)], name)

    def table(self, logits: Float[np.ndarray, "clips classes"], name: str) -> pd.DataFrame:
        """Return `predictions` of a set from a model's logits."""
        parts = {"forget": name, "retain": "always", "spare": "spare", "unseen": "unseen"}
        logits = logits.astype(float)
        rows = {part: self.clips["part"] == value for part, value in parts.items()}
        rows = {part: chosen.to_numpy() for part, chosen in rows.items() if chosen.any()}
        return per_clip.table(
            {part: logits[chosen] for part, chosen in rows.items()},
            {part: self.clips["hash"][chosen].tolist() for part, chosen in rows.items()},
            self.clips, self.design.labels,
        )


def summary(pool: Pool) -> pd.DataFrame:
    """Return what a pool's originals and references say of each set, a row a set.

    Returns:
        set, clips; number of originals and of references; then of either the mean loss on the set
        in nats, its UAR, and the AUC of the attack on the loss beside the spare clips, as means
        over models, and the standard deviation of the references' mean loss

    """
    tables = []
    for one in pool.design.sets:
        row: dict[str, Any] = {"set": one.name, "clips": len(one.hashes)}
        sides = {
            "originals": pool.originals(one.name), "references": pool.references(one.name)
        }
        row |= {side: len(models) for side, models in sides.items()}
        for side, models in sides.items():
            said = [pool.predictions(k, one.name) for k in models]
            scores = pd.DataFrame([scores_of(table, len(pool.design.labels)) for table in said])
            row |= {f"{name}, {side}": scores[name].mean() for name in scores}
            if side == "references":
                row["sd of the loss, references"] = scores["loss"].std()
        tables.append(row)
    return pd.DataFrame(tables)


def scores_of(table: pd.DataFrame, n_labels: int) -> dict[str, float]:
    forget, spare = (table[table["split"] == part] for part in ("forget", "spare"))
    inside = np.repeat([1, 0], [len(forget), len(spare)])
    return {
        "loss": forget["loss"].mean(),
        "UAR": metrics.uar(forget["label"], forget["prediction"], n_labels),
        "AUC": roc_auc_score(inside, -np.concatenate([forget["loss"], spare["loss"]])),
    }


def _design(file: Path) -> Design:
    values = json.loads(file.read_text())
    sets = [schema.checked(PoolSet, one, str(file)) for one in values.pop("sets", [])]
    return schema.checked(Design, values | {"sets": sets}, str(file))
