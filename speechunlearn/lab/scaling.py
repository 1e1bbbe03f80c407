"""How the cost of unlearning grows: measured beside retraining, with fitted slopes.

Each axis changes one size of a request and holds the others. A run makes a model with random
weights forget clips of one length: what the weights are does not matter to its cost.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from speechunlearn import methods, provenance
from speechunlearn.dataset.clips import Clips
from speechunlearn.errors import ParameterError
from speechunlearn.lab.profiles import Profile
from speechunlearn.methods import planner
from speechunlearn.methods.base import UnlearningData
from speechunlearn.models.classifier import Classifier, seeded
from speechunlearn.models.training import Recipe

#: axis -> what it changes
AXES = {
    "n": "N, clips to forget",
    "copies": "M, adversarial copies a clip",
    "steps": "P, attack steps",
    "seconds": "seconds a clip",
    "width": "number of weights",
    "retained": "R, retained clips",
}
#: those that an adversarial method alone has
_OF_ATTACK = ("copies", "steps")
#: clips that are counted
_PASSES = ("forward_backward", "forward")


@dataclass(frozen=True)
class Sizes:
    """One point: the size of everything that a cost may depend on.

    Args:
        n: clips to forget
        copies: M, of methods that make adversarial copies
        steps: P, of the same
        seconds: length of every clip
        width: channels of the network, by those that it has
        retained: R, clips of the retain set

    """

    n: int
    copies: int
    steps: int
    seconds: float
    width: float
    retained: int


class Bench:
    """Makes requests of any size, and measures what they take.

    Args:
        model: whose architecture is measured
        clips: waveforms are taken from them, cut or repeated to a length
        epochs: of every method and of retraining, so that they can be compared
        batch_size: of the same

    """

    def __init__(
        self, model: Classifier, clips: Clips, *, epochs: int = 1, batch_size: int = 16
    ) -> None:
        self.model, self.clips = model, clips
        self.epochs, self.batch_size = epochs, batch_size
        self._models = {1.0: model}

    def of_width(self, width: float) -> Classifier:
        """Return the model with so many times its channels."""
        if width not in self._models:
            self._models[width] = widened(self.model, width)
        return self._models[width]

    def unlearning_data(self, sizes: Sizes) -> UnlearningData:
        """Return the request of a point: retained clips are there, whether or not they are used.

        Where there are fewer clips than that, they are taken again from the first: what is in a
        clip does not matter to its cost.
        """
        positions, there = range(sizes.n + sizes.retained), len(self.clips)
        samples = round(sizes.seconds * self.model.frontend.sampling_rate)
        clips = of_length(self.clips.at([i % there for i in positions]), samples)
        again = [f"{name}-{i // there}" for i, name in enumerate(clips.hashes)]
        clips = replace(clips, hashes=clips.hashes[:there] + again[there:])
        return UnlearningData(
            clips.at(positions[: sizes.n]), len(self.model.labels),
            retain=clips.at(positions[sizes.n :]),
            fresh=lambda seed: widened(self.model, sizes.width, seed),
            recipe=Recipe(epochs=self.epochs, batch_size=self.batch_size),
        )

    def parameters(self, method: str, sizes: Sizes) -> Any:
        """Return the hyperparameters of a point."""
        parameters = methods.parameters(method)
        values = {"epochs": self.epochs, "batch_size": self.batch_size}
        values |= {"copies": sizes.copies, "steps": sizes.steps}
        known = values.keys() & vars(parameters).keys()
        return replace(parameters, **{name: values[name] for name in known})

    def measure(self, method: str, sizes: Sizes) -> dict[str, float]:
        """Run a method once.

        Returns:
            ``seconds``; ``memory_mb``, by which the process grew; ``forward_backward`` and
            ``forward``, clips

        """
        model, data = self.of_width(sizes.width), self.unlearning_data(sizes)
        parameters = self.parameters(method, sizes)
        provenance.trim()
        with provenance.measured() as usage:
            outcome = methods.get(method).unlearn(model, data, parameters, seed=0)
        return {
            "seconds": usage.seconds,
            "memory_mb": usage.peak_memory_mb - usage.start_memory_mb,
            **{name: getattr(outcome.cost, name) for name in _PASSES},
        }

    def predict(self, method: str, sizes: Sizes, *, budget: float) -> planner.Estimate:
        """Return what the planner says that `measure` will find."""
        return planner.estimate(
            method, self.of_width(sizes.width), self.unlearning_data(sizes),
            self.parameters(method, sizes), budget=budget,
        )


def of_length(clips: Clips, samples: int) -> Clips:
    """Return clips that are cut or repeated to so many samples.

    Raises:
        ParameterError: no sample

    """
    if samples < 1:
        raise ParameterError(f"seconds: {samples} samples are no clip")
    waveforms = [w.repeat(-(-samples // len(w)))[:samples] for w in clips.waveforms_z]
    return replace(clips, waveforms_z=waveforms)


def widened(model: Classifier, factor: float, seed: int = 0) -> Classifier:
    """Return a classifier of the same architecture with random weights and other widths.

    Args:
        model: on waveforms, of the shape of wav2vec 2.0
        factor: of the channels of every layer; rounded so that heads and groups divide them
        seed: of the weights

    """
    config = copy.deepcopy(model.network.config)
    whole = math.lcm(config.num_attention_heads, config.num_conv_pos_embedding_groups)
    config.hidden_size = max(1, round(config.hidden_size * factor / whole)) * whole
    config.intermediate_size = max(1, round(config.intermediate_size * factor))
    config.conv_dim = [max(4, 4 * round(width * factor / 4)) for width in config.conv_dim]
    config.classifier_proj_size = max(1, round(config.classifier_proj_size * factor))
    with seeded(seed):
        network = type(model.network)(config)
    classifier = Classifier(network, list(model.labels), model.frontend).eval()
    return classifier.to(next(model.parameters()).device)


def measured(
    bench: Bench, asked: Iterable[tuple[str, str, Sizes]], *, repeats: int
) -> pd.DataFrame:
    """Measure every point several times, in turns.

    What slows the machine for a while then slows all points, and no size alone. A point that lies
    on several axes is measured once a turn.

    Args:
        bench: what runs them
        asked: of `Scaling.points`
        repeats: turns, after a warm-up

    Returns:
        a row a point and turn: axis, method, size, turn, and what `Bench.measure` returns

    Raises:
        ParameterError: no turn

    """
    if repeats < 1:
        raise ParameterError(f"repeats: {repeats} is not positive")
    asked = list(asked)
    single = dict.fromkeys((method, sizes) for _, method, sizes in asked)
    for method, sizes in dict(reversed(single)).items():
        bench.measure(method, sizes)
    rows = []
    for turn in range(repeats):
        costs = {point: bench.measure(*point) for point in single}
        for axis, method, sizes in asked:
            size = getattr(sizes, axis)
            size = bench.of_width(size).n_parameters if axis == "width" else size
            rows.append({"axis": axis, "method": method, "size": size, "turn": turn,
                         **costs[method, sizes]})
    return pd.DataFrame(rows)


def slopes(table: pd.DataFrame, value: str = "seconds", *, level: float = 0.95) -> pd.DataFrame:
    r"""Fit how a cost grows with a size.

    .. math:: \log \text{cost} = \text{slope} \cdot \log \text{size} + \text{const}

    by least squares over all turns. A slope of 1 is growth in proportion, 0 is none.

    Args:
        table: of `measured`
        value: ``seconds``, ``memory_mb``, ``forward_backward`` or ``forward``
        level: of the intervals, by Student's t

    Returns:
        a row an axis and method: slope, low, high, and what the interval says: ``grows`` (above
        0), ``shrinks`` (below 0) or ``no growth found`` (0 inside). Costs that are not all
        positive have no slope: NaN and ``not measured``; two runs have no interval
    """
    rows = []
    for (axis, method), of_method in table.groupby(["axis", "method"], sort=False):
        slope = low = high = math.nan
        if (of_method[value] > 0).all():
            x, y = np.log(of_method["size"].astype(float)), np.log(of_method[value].astype(float))
            fit = stats.linregress(x, y)
            error = 0.0 if np.ptp(y) == 0 else fit.stderr  # of a constant it is 0 / 0
            freedom = len(of_method) - 2
            reach = stats.t.ppf((1 + level) / 2, freedom) * error if freedom else math.inf
            slope, low, high = fit.slope, fit.slope - reach, fit.slope + reach
        verdict = (
            "not measured" if math.isnan(low) else "grows" if low > 1e-9
            else "shrinks" if high < -1e-9 else "no growth found"
        )
        rows.append((axis, method, slope, low, high, verdict))
    columns = ["axis", "method", "slope", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def predictions(
    bench: Bench, asked: Iterable[tuple[str, Sizes]], *, repeats: int, budget: float
) -> pd.DataFrame:
    """Set the planner's predictions beside runs, each right before its run.

    Args:
        bench: what runs them
        asked: (method, sizes) of each run
        repeats: times that each is predicted and run
        budget: seconds of a calibration

    Returns:
        a row a run: method, n, copies, retained, seconds ``predicted`` and ``real`` (medians),
        ``ratio`` (the median of predicted / real, pair by pair), its least and greatest, and
        whether the counted passes are those that the method recorded

    """
    rows = []
    for _, (run, (method, sizes)) in itertools.product(range(repeats), enumerate(asked)):
        said = bench.predict(method, sizes, budget=budget).total
        real = bench.measure(method, sizes)
        rows.append(
            {"run": run, "method": method, "n": sizes.n, "copies": sizes.copies,
             "retained": sizes.retained, "predicted": said.seconds, "real": real["seconds"],
             "ratio": said.seconds / real["seconds"],
             "passes agree": all(getattr(said, name) == real[name] for name in _PASSES)}
        )
    table = pd.DataFrame(rows).groupby(["run", "method", "n", "copies", "retained"], sort=False)
    medians = table[["predicted", "real", "ratio"]].median()
    ends = table["ratio"].agg(least="min", greatest="max")
    return medians.join([ends, table["passes agree"].all()]).reset_index().drop(columns="run")


@dataclass(frozen=True)
class Scaling:
    """What the chapter on cost measures in a profile.

    Args:
        axes: name of `AXES` -> values
        centre: the other sizes
        methods: names; the last are those that use the retain set
        repeats: turns
        epochs: of every method and of retraining
        batch_size: of the same
        budget: seconds of a calibration

    """

    axes: Mapping[str, Sequence[float | int]]
    centre: Sizes
    methods: tuple[str, ...]
    repeats: int
    epochs: int
    batch_size: int
    budget: float

    @classmethod
    def of(cls, profile: Profile, axes: Sequence[str] = ()) -> Scaling:
        """Return what a profile measures.

        Args:
            profile: its ``scaling``
            axes: some of them; all without it

        Raises:
            ParameterError: an axis that it does not have

        """
        known = profile.scaling["axes"]
        unknown = sorted(set(axes) - set(known))
        if unknown:
            raise ParameterError(f"axes: {unknown} are not among {', '.join(known)}")
        chosen = {axis: known[axis] for axis in (axes or known)}
        centre = Sizes(**profile.scaling["centre"])
        settings = profile.scaling | {"axes": chosen, "centre": centre}
        return cls(**settings, repeats=profile.repeats)

    def points(self) -> list[tuple[str, str, Sizes]]:
        """Return (axis, method, sizes) of every point.

        Raises:
            ParameterError: an unknown axis, or fewer than two values

        """
        places = []
        for axis, values in self.axes.items():
            if axis not in AXES:
                raise ParameterError(f"axes: {axis!r} is not one of {', '.join(AXES)}")
            if len(set(values)) < 2 or min(values) <= 0:
                raise ParameterError(f"axes: {axis}: {list(values)} are not two positive sizes")
            whole = type(getattr(self.centre, axis))
            places += [
                (axis, method, replace(self.centre, **{axis: whole(value)}))
                for value in values for method in self.methods
                if axis not in _OF_ATTACK or hasattr(methods.parameters(method), "copies")
            ]
        return places

    def largest(self) -> list[tuple[str, Sizes]]:
        """Return every method at the largest N and R."""
        both = {axis: int(max(self.axes[axis])) for axis in {"n", "retained"} & set(self.axes)}
        return [(method, replace(self.centre, **both)) for method in self.methods]
