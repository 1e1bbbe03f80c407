# %% [markdown]
# # The corpus and its split
#
# A model that is to forget must first have learnt from somebody. This chapter reads a corpus, looks
# at it, and cuts it three times: into **training, validation and test speakers**, of whom no one is
# in two parts; and the training clips into a **forget set** of N clips, drawn at random, and the
# **retain set**.
#
# The smoke profile uses the *embedded corpus*: synthetic Italian speech made for this book, with
# file names in the scheme of DEMoS, the paper's corpus. It is not DEMoS, and no number on this
# page is one of DEMoS.

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results
)

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
).loc[["train", "validation", "test"]]

# %% [markdown]
# The classes, and how long the clips are:

# %%
from speechunlearn import figures

figures.clip_counts(manifest);

# %% [markdown]
# ## What the emotions sound like
#
# One clip of each class, all by the same training speaker.

# %%
from IPython.display import Audio, Markdown, display

speaker = manifest.loc[manifest["split"] == "train", "speaker"].iloc[0]
for label, clips in manifest[manifest["speaker"] == speaker].groupby("label"):
    display(Markdown(f"*{label}*"))
    display(Audio(filename=clips["path"].iloc[0], rate=16000))

# %% [markdown]
# ## Nobody is on two sides
#
# The split is by speaker, and a clip that occurs twice under two names counts once: otherwise a
# model could be asked to forget a recording that it keeps a copy of.

# %%
speakers = {split: set(part["speaker"]) for split, part in manifest.groupby("split")}
contents = {split: set(part["hash"]) for split, part in manifest.groupby("split")}
pairs = [("train", "validation"), ("train", "test"), ("validation", "test")]
print("speakers shared:", [len(speakers[a] & speakers[b]) for a, b in pairs])
print("contents shared:", [len(contents[a] & contents[b]) for a, b in pairs])

# %% [markdown]
# ## The forget sets
#
# Each *draw* is an order of the training clips; the forget set of size N is its first N. So the
# forget sets of one draw are nested, and a method's fall with N is not the luck of other clips.
# One more draw, the *development draw*, is kept for choosing parameters; it shares no clip with
# the reported ones.

# %%
import pandas as pd

from speechunlearn import deletions

largest = max(run.profile.n_values)
draws = ["development", *(draw for _, draw in run.profile.pairs)]
largest_of = {draw: deletions.clips(largest, draw) for draw in draws}
hashes = {draw: study.hashes(largest_of[draw]) for draw in draws}
pd.DataFrame(
    {
        "clips": {draw: len(hashes[draw]) for draw in draws},
        "speakers": {draw: len(set(study.forget(largest_of[draw]).speakers)) for draw in draws},
        "classes": {
            draw: study.forget(largest_of[draw]).labels.unique().numel() for draw in draws
        },
        "shared with development": {
            draw: len(set(hashes[draw]) & set(hashes["development"])) for draw in draws
        },
        "nested": {
            draw: all(
                study.hashes(deletions.clips(n, draw)) == hashes[draw][:n]
                for n in run.profile.n_values
            )
            for draw in draws
        },
    }
).rename_axis("draw")

# %% [markdown]
# DEMoS itself is licensed: whoever has it runs this chapter with `--profile paper --root …`. Its
# split was never published; the reader's is *reconstructed* from the paper's counts, see the page
# on corpora.
