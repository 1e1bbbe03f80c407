"""Profiles: every size of a run, in one place.

Three are YAML files in this folder; anyone's own is another. A file sets fields of `Profile`; what
it does not set has its default. Any mapping in it may begin with ``like: NAME[.KEY …]``: what it
does not set is then that of this place in one of the three. ``shared`` holds blocks that are there
for that alone, or for YAML's own anchors.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from speechunlearn import schema
from speechunlearn.errors import ParameterError

#: the three
NAMES = ("smoke", "cpu", "paper")

#: forget set alone first, then those that use more
_COMPARED = (
    "ran_lab", "adv", "adv_ela", "neggrad", "delete", "ssd", "finetune", "neggrad_plus", "remain",
    "scrub", "scrub_r", "salun", "bad_teacher",
)
#: what a profile's own values are for
_OWN_TASK = "emotion"
_Count = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(gt=0, lt=0.5)]
_SEQUENCE_METHODS = (
    "ran_lab", "adv_ela", "neggrad", "delete", "ssd", "neggrad_plus", "scrub", "salun"
)


@dataclass(frozen=True)
class Profile:
    """The sizes of a run.

    Args:
        name: ``smoke``, ``cpu``, ``paper``, or what `get` says of a file
        corpus: corpus it uses unless told otherwise
        encoder: ``nano``, ``nano-pretrained``, a local folder or a hub id
        recipe: hyperparameters of fine-tuning, see `speechunlearn.models.training.Recipe`
        runs: independent runs (a training seed and a forget set each)
        n_values: sizes of the forget set
        tau_values: bounds on the perturbation that are tried
        methods: hyperparameters of each method that differ from the paper's
        splits: share of the speakers in each part, for corpora without an official split
        split_seed: of that split
        runs_in_test: number of the runs done in setting ``test``; None runs all
        settings: ``validation`` trains on the training speakers and tests on the validation
            speakers; ``test`` trains on both and tests on the test speakers (the paper's two)
        retain_sample: number of clips of the retain set that are scored; None scores all
        top_db: silence at a clip's ends this far below its loudest frame is cut, in dB
        max_seconds: longer clips are cut to their centre
        task: what the model names, see `speechunlearn.dataset.tasks`; empty is the corpus's own
        shares: sizes of the forget set as shares of the training clips, beside n_values
        compared: methods of the chapters on other tasks, by name
        sequence_methods: those that also fulfil one request after another
        removals: number of classes, and of speakers, removed whole, each a forget set
        classes: classes to remove, by name, instead of their number
        speakers: speakers to delete, by name, instead of their number
        sequence_length: number of speakers deleted one after another
        retrained_seeds: number of models retrained for the first random forget set
        ranked: methods of the leaderboard, by name; none are all
        ranked_size: size of its forget sets: a number of clips, or below 1 a share of them
        references: number of models retrained for each of its forget sets
        trials: number of values of its hyperparameter tried of each method
        spare: the unseen clips are those that the setting would not use: for tuning
        scaling: what the chapter on cost measures, see `speechunlearn.lab.scaling.Scaling`
        repeats: times that it measures each
        encoders: corpus -> encoder it gets instead, where the usual one was pre-trained on it
        tasks: task -> what differs for it from the profile's own values
        threads: processor threads; a fixed number, so that sums are taken in a fixed order
        reproducible: holds the numerical libraries to instructions every x86-64 processor of
            the last ten years has, so that stored outputs compare on another machine

    """

    name: str
    corpus: str
    encoder: str
    recipe: dict[str, Any]
    runs: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    n_values: tuple[_Count, ...]
    tau_values: tuple[Annotated[float, Field(gt=0)], ...]
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    splits: dict[str, float] = field(
        default_factory=lambda: {"train": 0.7, "validation": 0.15, "test": 0.15}
    )
    split_seed: int = 0
    settings: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    runs_in_test: _Count | None = None
    retain_sample: _Count | None = None
    top_db: float | None = None
    max_seconds: float | None = None
    task: str = ""
    shares: tuple[_Share, ...] = ()
    compared: tuple[str, ...] = _COMPARED
    sequence_methods: tuple[str, ...] = _SEQUENCE_METHODS
    removals: _Count = 5
    classes: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    sequence_length: _Count = 5
    retrained_seeds: Annotated[int, Field(ge=0)] = 4
    ranked: tuple[str, ...] = ()
    ranked_size: Annotated[float, Field(gt=0)] = 100.0
    references: _Count = 4
    trials: _Count = 5
    spare: bool = False
    scaling: dict[str, Any] = field(default_factory=dict)
    repeats: _Count = 5
    encoders: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    threads: _Count = 2
    reproducible: bool = False

    def for_task(self, task: str) -> Profile:
        """Return the profile as it is for a task.

        Raises:
            ParameterError: a task it has no sizes for

        """
        if task not in (_OWN_TASK, *self.tasks):
            known = ", ".join((_OWN_TASK, *self.tasks))
            raise ParameterError(f"profile {self.name!r} has no task {task!r}; it has {known}")
        return self.with_values(task=task, **self.tasks.get(task, {}))

    def with_values(self, **values: Any) -> Profile:
        """Return the profile with these values in place of its own.

        Raises:
            ParameterError: a name it does not have, or a value of another type

        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return schema.checked(Profile, fields | values, f"profile {self.name!r}")


def get(name: str) -> Profile:
    """Return one of the three profiles, or that of a YAML file.

    A file's is called by the file and a hash of its values, e.g. ``mine-3f2a91c4``: whatever it
    gives another name to has other values.

    Args:
        name: ``smoke``, ``cpu``, ``paper``, or a path that ends in ``.yaml`` or ``.yml``

    Raises:
        ParameterError: there is none, or a value that is none; the message names file and key

    """
    if name in NAMES:
        return _carried(name)
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(NAMES)
        raise ParameterError(f"profile: {name!r} is not one of {known}, and no .yaml file")
    profile = _of(_resolved(schema.read(path), str(path)), path.stem, str(path))
    text = json.dumps(dataclasses.asdict(profile), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return dataclasses.replace(profile, name=f"{path.stem}-{digest}")


@functools.cache
def _carried(name: str) -> Profile:
    return _of(_values(name), name, f"profile {name!r}")


@functools.cache
def _values(name: str) -> dict[str, Any]:
    file = resources.files(__name__) / f"{name}.yaml"
    with resources.as_file(file) as path:
        return _resolved(schema.read(path), path.name)


def _resolved(value: Any, where: str) -> Any:
    """Return a value with everything that it is like."""
    if isinstance(value, list):
        return [_resolved(inner, where) for inner in value]
    if not isinstance(value, dict):
        return value
    resolved = {key: _resolved(inner, where) for key, inner in value.items() if key != "like"}
    if "like" not in value:
        return resolved
    name, *keys = str(value["like"]).split(".")
    try:
        block = functools.reduce(lambda at, key: at[key], keys, _values(name))
        return dict(block) | resolved
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ParameterError(
            f"{where}: like is {value['like']!r}; it should be {', '.join(NAMES)}, or a mapping "
            "in one of them, such as cpu.methods"
        ) from error


def _of(values: Mapping[str, Any], name: str, where: str) -> Profile:
    """Return the profile of a file's values, checked for every task."""
    fields = {key: value for key, value in values.items() if key != "shared"}
    if "name" in fields:
        raise ParameterError(f"{where}: name is {fields['name']!r}; the name is the file's")
    profile = schema.checked(Profile, {"name": name} | fields, where)
    for task, others in profile.tasks.items():
        schema.checked(Profile, {**vars(profile), **others}, f"{where}: tasks.{task}")
    return profile


def prepare_process(profile: Profile) -> None:
    """Set threads and instruction set as the profile says. Call it before torch computes.

    The libraries choose their instructions once, at the first computation and not at the import.
    Where one was made before, theirs stay, and the keys of the cache say so, see
    `speechunlearn.provenance.computing`. What is set in the environment stays, too; on processors
    that lack these instructions (arm64, say) nothing is set.
    """
    # a missing widget is no news to the reader of a page
    warnings.filterwarnings("ignore", message="IProgress not found")
    import torch

    if profile.reproducible and torch.cpu._is_avx2_supported():
        os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
        os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
    torch.set_num_threads(profile.threads)
