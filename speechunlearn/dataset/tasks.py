"""Tasks: what a model names, and what its test clips must not share with its training clips.

A task is data: the same corpus, encoder, methods and audits serve all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from speechunlearn.dataset import splits
from speechunlearn.errors import CorpusError, require


@dataclass(frozen=True)
class Task:
    """One way to read a manifest.

    Args:
        name: in results and on the command line
        title: what the model does
        label: manifest column that the model names
        apart: manifest column of which no value lies on both sides of a split: the test clips
            come from values that no model was trained on. They are also the clusters that the
            bootstraps draw

    """

    name: str
    title: str
    label: str
    apart: str

    def manifest(
        self, table: pd.DataFrame, made_for_it: bool, fractions: Mapping[str, float], seed: int
    ) -> pd.DataFrame:
        """Return a corpus's manifest as this task sees it.

        Args:
            table: manifest of a corpus
            made_for_it: whether the corpus and its split, if any, were made for this task
            fractions: part -> share of the clips, where there is no split
            seed: of that split

        Returns:
            the manifest with ``label`` as the task has it, ``cluster`` (what is kept apart) and
            ``split``

        Raises:
            CorpusError: a label of one cluster only, which cannot be tested on others

        """
        label, cluster = table[self.label], table[self.apart]
        if self.label == "speaker" and (table["label"] == table["speaker"]).all():
            # nothing but the speaker is known of a clip: a recording session is a folder
            cluster = table["path"].map(lambda path: Path(path).parent.name)
        seen = table.assign(label=label, cluster=cluster)
        counts = seen.groupby("label")["cluster"].nunique()
        told = f"{self.label} {counts.idxmin()!r} has one {self.apart} only: "
        told += "it cannot be tested on another; add one, or leave its clips out"
        require(counts.min() > 1, told, CorpusError)
        trained = set(label[table["split"] == "train"])
        # a split that keeps speakers apart is none for their identification
        fits = self.label != "speaker" or trained == set(label)
        if made_for_it and fits and not (table["split"] == "").all():
            return seen
        # the split keeps "speakers" apart and balances "label"
        gender = seen["gender"] if self.apart == "speaker" else ""
        kept_apart = seen.assign(speaker=seen["cluster"], gender=gender)
        return seen.assign(split=splits.speaker_split(kept_apart, fractions, seed)["split"])


#: the task of a corpus whose labels are its user's; it serves every other task as well
ANY = "any label"

TASKS = {
    task.name: task
    for task in (
        Task("emotion", "speech emotion recognition, unseen speakers", "label", "speaker"),
        Task("keyword", "keyword spotting, unseen speakers", "label", "speaker"),
        Task("speaker", "speaker identification, unseen words", "speaker", "label"),
        Task(ANY, "what the labels of a CSV name, unseen speakers", "label", "speaker"),
        Task("image", "handwritten digits, unseen images", "label", "hash"),
    )
}


#: tasks that a corpus serves beside its own: whoever says known words can be told by the voice
ALSO = {"keyword": ("speaker",)}


def check(task: str, corpus: str, made_for: str) -> None:
    """Refuse a task that a corpus does not serve.

    Args:
        task: name of a task
        corpus: name of a corpus
        made_for: the corpus's own task

    Raises:
        ParameterError: it does not

    """
    get(task)
    served = made_for == ANY or task in (made_for, *ALSO.get(made_for, ()))
    require(served, f"corpus {corpus!r} is of task {made_for!r}: it has no {task!r} task")


def get(name: str) -> Task:
    """Return the task of this name.

    Raises:
        ParameterError: there is none

    """
    require(name in TASKS, f"task: {name!r} is not one of {', '.join(TASKS)}")
    return TASKS[name]
