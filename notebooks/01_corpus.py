# %% [markdown]
# # The corpus and its split
#
# *Who trains a model here, who tests it, and which recordings is it asked to forget?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written

# %%
from speechunlearn.chapters import context

run = context.start(
    profile, corpus, root, encoder, skip_bad, cache, results
)

# %% tags=["answer"]
import pandas as pd

from speechunlearn.chapters import answers, pages

shown = answers.emotions()
clips = pd.concat(
    shown.of_evaluation(name)
    for name in shown.select(method="original").evaluations["evaluation"]
)
trained, unseen = (
    set(clips.loc[clips["split"].isin(parts), "speaker"])
    for parts in (["forget", "retain"], ["unseen"])
)
pages.write(
    f"Models are trained on {len(trained)} speakers and tested on {len(unseen)} others, of whom "
    f"{len(trained & unseen)} are among the first; the recordings to forget are drawn from those "
    f"that a model was trained on.{answers.about(shown)}"
)

# %% [markdown]
# A model that is to forget must first have learnt from somebody. This chapter reads a corpus, looks
# at it, and splits it twice: first the speakers into **training, validation and test speakers**,
# with nobody in two parts; then the training clips into a **forget set** of N clips, drawn at
# random, and the **retain set**, which is the rest.
#
# The smoke profile uses the *embedded corpus*: synthetic Italian speech made for this book, with
# file names in the scheme of DEMoS, the paper's corpus. It is not DEMoS, and no number on this
# page is one of DEMoS.

# %% [markdown]
# ## The corpus of this run

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %%
study = run.study("validation")
manifest = study.manifest
manifest.groupby("split").agg(
    clips=("path", "size"),
    speakers=("speaker", "nunique"),
    female=("gender", lambda g: int((g == "female").sum())),
    minutes=("seconds", lambda s: round(s.sum() / 60, 1)),
).loc[list(run.profile.splits)]

# %% [markdown]
# The classes, and how long the clips are:

# %% tags=["figure-clip_counts"]
import seaborn as sns

from speechunlearn.chapters import figures

parts = {"hue": "split", "hue_order": list(run.profile.splits), "palette": figures.PALETTE}
figure, (left, right) = figures.panels(9, 3.2, columns=2)
sns.countplot(
    manifest.sort_values("label"), y="label", ax=left, edgecolor="black", linewidth=0.5,
    legend=False, **parts,
)
sns.ecdfplot(manifest, x="seconds", ax=right, **parts)
hatches = ["", "///", "..."]
for bars, hatch in zip(left.containers, hatches, strict=False):  # to be told apart in grey, too
    for bar in bars:
        bar.set_hatch(hatch)
for line, style in zip(right.get_lines(), figures.LINES, strict=False):
    line.set_linestyle(style)
left.set(xlabel="clips", ylabel="")
right.set(xlabel="duration (s)", ylabel="share of clips")
right.get_legend().set_title("")

# %% [markdown]
# ## A clip and a split, rebuilt
#
# A file is not yet what a model takes. Channels are averaged, all clips are brought to one sampling
# rate, and each is given zero mean and unit variance. The result is `waveform_z`; its unit is the
# clip's own standard deviation.

# %% tags=["component"]
import hashlib

import numpy as np
import pandas as pd
import soundfile
import soxr


def read(path, sampling_rate):
    """One clip: mono, at one sampling rate, with zero mean and unit variance."""
    channels, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
    waveform = channels.mean(axis=1)
    if own_rate != sampling_rate:
        waveform = soxr.resample(waveform, own_rate, sampling_rate, quality="VHQ")
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)

# %% [markdown]
# To keep each speaker's clips together, the split puts the speakers in random order and cuts the
# list where a part has its share of the clips. Such a split can be uneven: a part may get few clips
# of a class, or few women. So many splits are drawn, and the most even one is used.

# %% tags=["component"]
def random_split(manifest, shares, generator):
    """Whole speakers to each part, in random order, until the part has its share."""
    sizes = manifest["speaker"].value_counts()
    order = sizes.loc[generator.permutation(sizes.index)]
    middle = (order.cumsum() - order / 2) / order.sum()
    part = np.searchsorted(np.cumsum(list(shares.values()))[:-1], middle)
    names = np.array(list(shares))[part]
    return manifest["speaker"].map(dict(zip(order.index, names, strict=True)))


def imbalance(manifest, split, shares):
    """Mean squared deviation of the parts from their shares of classes and genders."""
    wanted, total = pd.Series(shares), 0.0
    for column in ("label", "gender"):
        known = manifest[column] != ""
        counts = pd.crosstab(split[known], manifest.loc[known, column])
        found = counts / counts.sum()
        deviation = found.reindex(wanted.index, fill_value=0).div(wanted, axis=0) - 1
        total += np.nan_to_num((deviation**2).to_numpy().mean()) if known.any() else 0
    return total

# %% [markdown]
# The clips to forget are the first N in a random order of their *contents* (identified by a hash),
# and the order depends only on the name of the set. So the set of 10 begins with the set of 5, on
# every machine.

# %% tags=["component"]
def random_clips(hashes, n, name):
    """The first n contents in the order that belongs to this name."""
    digest = hashlib.sha256(f"0:{name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    return list(generator.permutation(np.unique(hashes))[:n])

# %% tags=["nbval-ignore-output", "figure-random_splits"]
from speechunlearn.dataset import audio, splits

generator = np.random.default_rng(0)
shares = run.profile.splits
drawn = [random_split(manifest, shares, generator) for _ in range(20)]
tried = [imbalance(manifest, split, shares) for split in drawn]
even = splits.speaker_split(manifest, shares)["split"]
figure, axis = figures.panels(5.5, 2.8)
sns.histplot(x=tried, bins=20, color="lightgrey", edgecolor="black", ax=axis)
axis.axvline(
    imbalance(manifest, even, shares), color="black", linestyle="--",
    label="the split that is taken",
)
axis.set(
    xlabel="imbalance (0: each part has its share of everything)", ylabel="splits",
    xlim=(0, None),
)
axis.legend(frameon=False, fontsize=8);

# %% [markdown]
# The package's own readers, splits and random forget sets do the same:

# %% tags=["agrees"]
path, rate = manifest["path"].iloc[0], 16000
theirs = audio.normalise(audio.read_clip(path, rate))
assert np.allclose(read(path, rate), theirs, atol=1e-4)
print("clip: equal to 1e-4 of its standard deviation")

whole = [split.nunique() == len(shares) for split in drawn]  # no part is empty
least = min(np.array(tried)[whole], default=np.inf)
assert imbalance(manifest, even, shares) <= least + 1e-9
assert (even.groupby(manifest["speaker"]).nunique() == 1).all()
print("split: no speaker in two parts, and more even than any that was tried here")

train = study.train_manifest
hashes = train["hash"].to_numpy(str)
for name in ("development", 0, 1):
    assert random_clips(hashes, 5, name) == splits.random_forget_set(train, 5, name)
print("random forget sets: the same clips in the same order")

# %% [markdown]
# ## On real speech
#
# The data behind the committed runs of profile `cpu`. The counts are those of one run, and of the
# clips that are scored: the forget set, a sample of the retain set, and all clips of the unseen
# units, which are speakers, or words where the model names speakers.

# %%
from speechunlearn import corpora
from speechunlearn.lab import results as protocol

rows = []
for folder in sorted(path.parent for path in protocol.COMMITTED.glob("*/evaluations.csv")):
    real = protocol.Results.read(folder).reported().select(forget_kind="clips")
    first = real.select(method="original").evaluations.iloc[0]
    clips = real.of_evaluation(first["evaluation"])
    sizes = clips["split"].value_counts()[["forget", "retain", "unseen"]]
    rows.append({
        "corpus": corpora.get(first["corpus"]).title.partition(":")[0], "task": first["task"],
        "classes": real.n_labels,
        "unseen units": clips.loc[clips["split"] == "unseen", "cluster"].nunique(),
        **sizes.add_prefix("clips, "),
    })
pd.DataFrame(rows).set_index(["corpus", "task"])

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 01 --profile cpu --corpus ravdess --root PATH

# %% [markdown]
# ### What the emotions sound like
#
# One clip of each class, all by the same training speaker.

# %%
from IPython.display import Audio, Markdown, display

speaker = manifest.loc[manifest["split"] == "train", "speaker"].iloc[0]
for label, clips in manifest[manifest["speaker"] == speaker].groupby("label"):
    display(Markdown(f"*{label}*"))
    display(Audio(filename=clips["path"].iloc[0], rate=16000))

# %% [markdown]
# ### Nobody is on two sides
#
# The split is by speaker, and a clip that occurs twice under two names counts once: otherwise a
# model could be asked to forget a recording of which it keeps a copy.

# %%
import itertools

speakers = {split: set(part["speaker"]) for split, part in manifest.groupby("split")}
contents = {split: set(part["hash"]) for split, part in manifest.groupby("split")}
pairs = list(itertools.combinations(run.profile.splits, 2))
print("speakers shared:", [len(speakers[a] & speakers[b]) for a, b in pairs])
print("contents shared:", [len(contents[a] & contents[b]) for a, b in pairs])

# %% [markdown]
# ### The forget sets
#
# A *random forget set* of size N is the first N clips of a random order of the training clips. So
# forget sets with the same number are nested: if a method gets worse as N grows, that is not
# because the clips were other ones. One more, the *development forget set*, is kept for choosing
# parameters; it shares no clip with the reported ones.

# %%
from speechunlearn.lab import forget_sets

largest = max(run.profile.n_values)
forget_ids = ["development", *(forget_id for _, forget_id in run.profile.runs)]
largest_of = {forget_id: forget_sets.clips(largest, forget_id) for forget_id in forget_ids}
hashes = {forget_id: study.hashes(largest_of[forget_id]) for forget_id in forget_ids}
pd.DataFrame(
    {
        "clips": {forget_id: len(hashes[forget_id]) for forget_id in forget_ids},
        "speakers": {
            forget_id: len(set(study.forget(largest_of[forget_id]).speakers))
            for forget_id in forget_ids
        },
        "classes": {
            forget_id: study.forget(largest_of[forget_id]).labels.unique().numel()
            for forget_id in forget_ids
        },
        "shared with development": {
            forget_id: len(set(hashes[forget_id]) & set(hashes["development"]))
            for forget_id in forget_ids
        },
        "nested": {
            forget_id: all(
                study.hashes(forget_sets.clips(n, forget_id)) == hashes[forget_id][:n]
                for n in run.profile.n_values
            )
            for forget_id in forget_ids
        },
    }
).rename_axis("forget_id")

# %% [markdown]
# DEMoS itself is licensed: if you have it, run this chapter with `--profile paper --root …`. Its
# split was never published; the reader's is *reconstructed* from the paper's counts, see the page
# on corpora.

# %% [markdown]
# ## What to remember
#
# - A model takes `waveform_z`: mono, one sampling rate, zero mean, unit variance.
# - A split keeps speakers and contents apart, and the most even of many random ones is taken.
# - A forget set is the start of a fixed random order, so forget sets with the same number are
#   nested; the development forget set shares no clip with the reported ones.
#
# ## Exercises
#
# **1.** A clip is recorded again at half the volume. What changes for the model?

# %% tags=["solution", "hide-cell"]
waveform = audio.read_clip(path, rate)
loud, quiet = audio.normalise(waveform), audio.normalise(0.5 * waveform)
assert np.abs(loud - quiet).max() < 0.01
print("Nothing: zero mean and unit variance leave the same waveform.")

# %% [markdown]
# **2.** Cut the clips at random, without regard to speakers. How many of the test speakers has the
# model then heard in training?

# %% tags=["solution", "hide-cell"]
generator = np.random.default_rng(0)
parts = generator.choice(list(shares), p=list(shares.values()), size=len(manifest))
heard = {part: set(manifest["speaker"][parts == part]) for part in shares}
tested = list(shares)[-1]
assert len(heard[tested] & heard["train"]) > len(heard[tested]) / 2
print("Most of them: such a test says little about strangers.")

# %% [markdown]
# **3.** Add one clip to the training set, and draw again. Does the new forget set differ from the
# old one by more than one clip?

# %% tags=["solution", "hide-cell"]
contents = train["hash"].to_numpy(str)
before = random_clips(contents, 5, 0)
after = random_clips(np.append(contents, "0" * 64), 5, 0)
assert before != after
print("No: the order is one of all contents. A forget set belongs to its training set.")
