"""No speaker and no content on two sides; draws are nested, uniform and reproducible."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from speechunlearn import corpora
from speechunlearn.dataset.splits import random_forget_set, speaker_split
from speechunlearn.errors import CorpusError, ParameterError


def make_manifest(clips: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """A manifest of (speaker, gender, label, hash)."""
    table = pd.DataFrame(clips, columns=["speaker", "gender", "label", "hash"])
    return table.assign(
        path=[f"/{i}.wav" for i in range(len(table))], seconds=1.0, corpus="test", split=""
    )[list(corpora.COLUMNS)]


def balanced(speakers: int = 20, labels: int = 4, each: int = 3) -> pd.DataFrame:
    return make_manifest(
        [
            (f"s{s:02d}", ("male", "female")[s % 2], f"label {c}", f"{s}-{c}-{i}")
            for s in range(speakers)
            for c in range(labels)
            for i in range(each)
        ]
    )


def unbalanced(seed: int) -> pd.DataFrame:
    """Speakers of 1 to 60 clips, each with label preferences of their own."""
    rng = np.random.default_rng(seed)
    clips = []
    for s in range(30):
        preference = rng.dirichlet([1.0] * 5)
        for i in range(rng.integers(1, 60)):
            clips.append((f"s{s}", "", f"label {rng.choice(5, p=preference)}", f"{s}-{i}"))
    return make_manifest(clips)


def assert_disjoint(manifest: pd.DataFrame) -> None:
    assert (manifest.groupby("speaker")["split"].nunique() == 1).all()
    assert (manifest.groupby("hash")["split"].nunique() == 1).all()


# Speaker-independent splits


def test_a_balanced_corpus_is_split_exactly():
    manifest = balanced()
    split = speaker_split(manifest, {"train": 0.6, "validation": 0.2, "test": 0.2}, seed=0)
    assert_disjoint(split)
    pd.testing.assert_frame_equal(split.drop(columns="split"), manifest.drop(columns="split"))
    assert set(manifest["split"]) == {""}  # the input is not touched
    speakers = split.drop_duplicates("speaker").value_counts(["split", "gender"]).to_dict()
    assert speakers == {
        ("train", "female"): 6, ("train", "male"): 6,
        ("validation", "female"): 2, ("validation", "male"): 2,
        ("test", "female"): 2, ("test", "male"): 2,
    }  # fmt: skip
    labels = split.value_counts(["split", "label"])
    assert set(labels["train"]) == {36} and set(labels["validation"]) == set(labels["test"]) == {12}


@pytest.mark.parametrize("seed", range(5))
def test_an_unbalanced_corpus_is_stratified_by_class(seed):
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    split = speaker_split(unbalanced(seed), fractions, seed=seed)
    assert_disjoint(split)
    shares = pd.crosstab(split["label"], split["split"], normalize="index")
    for part, fraction in fractions.items():
        assert shares[part].between(0.6 * fraction, 1.4 * fraction).all(), shares


def test_one_large_speaker_still_leaves_no_part_empty():
    clips = [("big", "", "a", f"b{i}") for i in range(98)]
    manifest = make_manifest([*clips, ("x", "", "a", "x"), ("y", "", "a", "y")])
    split = speaker_split(manifest, {"train": 0.4, "validation": 0.3, "test": 0.3}, seed=0)
    assert_disjoint(split)
    assert set(split["split"]) == {"train", "validation", "test"}


def test_fractions_are_of_clips_not_of_speakers():
    clips = [("big", "", "a", f"b{i}") for i in range(50)]
    clips += [(f"s{s}", "", "a", f"{s}-{i}") for s in range(10) for i in range(5)]
    split = speaker_split(make_manifest(clips), {"train": 0.5, "test": 0.5}, seed=0)
    assert split["split"].value_counts().to_dict() == {"train": 50, "test": 50}


def test_the_split_depends_on_the_seed_alone():
    manifest = balanced()
    first, again, other = (
        speaker_split(manifest, {"train": 0.5, "test": 0.5}, seed=seed) for seed in (3, 3, 4)
    )
    pd.testing.assert_frame_equal(first, again)
    assert (first["split"] != other["split"]).any()
    shuffled = speaker_split(
        manifest.sample(frac=1, random_state=0), {"test": 0.5, "train": 0.5}, seed=3
    )
    pd.testing.assert_frame_equal(shuffled.sort_index(), first)


def test_speakers_who_share_clips_stay_together():
    manifest = balanced()
    # A chain: s00 and s07 share a clip, s07 and s13, s13 and s19; s02 and s05 another.
    for i, (one, two) in enumerate(
        [("s00", "s07"), ("s07", "s13"), ("s19", "s13"), ("s02", "s05")]
    ):
        for speaker in (one, two):
            row = manifest.index[manifest["speaker"] == speaker][i]
            manifest.loc[row, "hash"] = f"shared {i}"
    for seed in range(5):
        split = speaker_split(manifest, {"train": 0.5, "validation": 0.25, "test": 0.25}, seed)
        assert_disjoint(split)
        part = split.groupby("speaker")["split"].first()
        assert part[["s00", "s07", "s13", "s19"]].nunique() == 1
        assert part[["s02", "s05"]].nunique() == 1


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.6, "validation": 0.2, "test": 0.3}, "must sum to 1, not 1.1"),
        ({"train": 0.6, "test": 0.3}, "must sum to 1, not 0.9"),
        ({"train": 1.2, "test": -0.2}, "must be positive, not .*-0.2"),
        ({"train": 1.0, "test": 0.0}, "must be positive"),
        ({"train": 0.8, "dev": 0.2}, "unknown part 'dev'"),
        ({"validation": 0.8, "test": 0.2}, "needs 'train'"),
        ({"train": 1.0}, "needs 'train' and another part"),
    ],
)
def test_fractions_that_make_no_split(fractions, message):
    with pytest.raises(ParameterError, match=message):
        speaker_split(balanced(), fractions, seed=0)


def test_fewer_speakers_than_parts():
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    with pytest.raises(CorpusError, match=r"2 speaker\(s\) cannot be split into 3 parts"):
        speaker_split(balanced(speakers=2), fractions, seed=0)
    manifest = balanced(speakers=3)
    manifest.loc[[0, 12], "hash"] = "shared"  # the first clips of s00 and s01
    with pytest.raises(CorpusError, match=r"2 speaker\(s\) .* share clips count as one"):
        speaker_split(manifest, fractions, seed=0)


def test_a_label_missing_from_training():
    # Three speakers, each with labels that the others lack: training can hold one of them.
    clips = [(f"s{s}", "", f"label {s}", f"{s}-{i}") for s in range(3) for i in range(4)]
    with pytest.raises(CorpusError, match="'label .', 'label .' missing from the training part"):
        speaker_split(make_manifest(clips), {"train": 0.6, "validation": 0.2, "test": 0.2}, seed=0)


def test_a_rare_label_is_kept_in_training():
    # Only two speakers of twenty have it.
    manifest = balanced()
    rare = make_manifest([("s04", "male", "rare", "r1"), ("s11", "female", "rare", "r2")])
    manifest = pd.concat([manifest, rare], ignore_index=True)
    for seed in range(5):
        split = speaker_split(manifest, {"train": 0.5, "validation": 0.25, "test": 0.25}, seed)
        assert "train" in set(split.loc[split["label"] == "rare", "split"])
        # One of its two speakers is far more than a tenth; none would deviate less.
        split = speaker_split(manifest, {"train": 0.1, "test": 0.9}, seed)
        assert "train" in set(split.loc[split["label"] == "rare", "split"])


def test_split_of_real_speech(real_speech):
    manifest = corpora.read_manifest("ravdess", real_speech("ravdess"))
    split = speaker_split(manifest, {"train": 0.6, "validation": 0.2, "test": 0.2}, seed=0)
    assert_disjoint(split)
    speakers = split.groupby("split")["speaker"].nunique().to_dict()
    assert speakers == {"train": 14, "validation": 5, "test": 5}
    genders = split.drop_duplicates("speaker").value_counts(["split", "gender"])
    assert genders["train", "female"] == genders["train", "male"] == 7


# Forget sets


def test_draws_are_nested():
    manifest = balanced()
    for forget_id in (0, 1, "development"):
        largest = random_forget_set(manifest, 100, forget_id, seed=5)
        assert len(set(largest)) == 100 and set(largest) <= set(manifest["hash"])
        for n in (1, 10, 30, 50):
            assert random_forget_set(manifest, n, forget_id, seed=5) == largest[:n]


def test_draws_differ_by_draw_and_seed():
    manifest = balanced()
    forget_ids = [
        random_forget_set(manifest, 20, d, seed=s) for d in (0, 1, "development") for s in (0, 1)
    ]
    assert len({tuple(forget_id) for forget_id in forget_ids}) == 6
    # Seed and draw must not be mixed up: draw 1 of seed 0 is not draw 0 of seed 1.
    assert random_forget_set(manifest, 20, 1, seed=0) != random_forget_set(manifest, 20, 0, seed=1)


def test_draws_do_not_depend_on_row_order_or_process():
    manifest = balanced()
    forget_id = random_forget_set(manifest, 4, "development")
    assert random_forget_set(manifest.sample(frac=1, random_state=0), 4, "development") == forget_id
    # Committed results name forget sets by draw and seed: this one must stay what it is.
    assert forget_id == ["8-3-2", "10-3-2", "15-2-1", "7-2-1"]


def test_draws_are_uniform_over_contents():
    # Ten contents, one of them a hundred times: each is drawn in 1 of 5 draws of two.
    manifest = make_manifest(
        [("s", "", "a", f"h{i}") for i in range(10)] + [("s", "", "a", "h0")] * 99
    )
    counts = Counter(
        h for forget_id in range(2000) for h in random_forget_set(manifest, 2, forget_id)
    )
    # 2,000 draws of probability 0.2: standard deviation 18, so 90 is five of them.
    assert all(abs(counts[f"h{i}"] - 400) < 90 for i in range(10)), counts


def test_excluded_contents_are_never_drawn():
    manifest = balanced()
    development = random_forget_set(manifest, 100, "development")
    rest = random_forget_set(manifest, 140, 0, exclude=development)
    assert set(rest) == set(manifest["hash"]) - set(development)
    # Taking hashes out does not change the order of the others.
    order = random_forget_set(manifest, 240, 0)
    assert rest == [h for h in order if h not in set(development)]


@pytest.mark.parametrize("n", [241, 0, -1])
def test_n_out_of_range(n):
    manifest = balanced()
    assert len(random_forget_set(manifest, 240, 0)) == 240
    with pytest.raises(ParameterError, match=f"n={n} clips to forget, but it must be in 1 to 240"):
        random_forget_set(manifest, n, 0)


def test_n_larger_than_what_is_not_excluded():
    manifest = balanced()
    exclude = frozenset(random_forget_set(manifest, 200, "development"))
    assert len(random_forget_set(manifest, 40, 0, exclude=exclude)) == 40
    with pytest.raises(ParameterError, match="n=41 .* in 1 to 40: .* 240 .*, 200 of them excluded"):
        random_forget_set(manifest, 41, 0, exclude=exclude)
