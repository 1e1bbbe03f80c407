# %% [markdown]
# # A deletion request on your own model
#
# *What happens to a deletion request on a model of one's own?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "keyword"  # what the model names
method = "perturbed"  # the method; the tool itself would take the leaderboard's
size = 0.0  # clips to forget: a number, or below 1 a share; 0: the profile's
runs = []  # [seed, forget set] of each run, of which the first is taken; empty: the profile's
references = 0  # number of retrained models; 0: the profile's

# %%
from speechunlearn.chapters import context

run = context.start(
    profile, corpus, root, encoder, skip_bad, cache, results, task=task, runs=runs,
    ranked=[method], ranked_size=size, references=references
)

# %% tags=["answer"]
import numpy as np
import pandas as pd

from speechunlearn.chapters import pages
from speechunlearn.lab import results as protocol

rows = pd.read_csv(protocol.COMMITTED.parent / "benchmarks" / "requests.csv", dtype={"kind": str})
rows = rows[rows["kind"] == "16"]
who = rows["who"].str.partition(" ")[0]  # of several retrained models, the mean
scores = rows.groupby(["request", who])[["loss", "auc"]].mean().unstack()
resamples = np.random.default_rng(0).integers(len(scores), size=(2000, len(scores)))
closed = {}
for name in ("loss", "auc"):
    gap = scores[name].sub(scores[name]["retrained"], axis=0)
    before, after = gap["original"].to_numpy(), gap["unlearned"].to_numpy()
    drawn = 1 - after[resamples].mean(axis=1) / before[resamples].mean(axis=1)
    ends = np.quantile(drawn, [0.025, 0.975])
    closed[name] = protocol.with_interval(1 - after.mean() / before.mean(), *ends)
pages.write(
    "`forget` writes another model, and a report that begins with a verdict. Of the gap between "
    "the original and models retrained without the clips it closed, with 1 for all of it, "
    f"{closed['loss']} in the mean loss on its clips and {closed['auc']} in the AUC of the attack "
    "on it. (Arabic words, an AST that a plain loop trained, "
    f"n = {len(scores)} requests of 16 clips.)"
)

# %% [markdown]
# You hold a trained speech classifier and a letter that asks for a deletion. This chapter answers
# it with the tool of this project, from the model's folder to the report. The model is one of the
# book's, written to a folder as transformers writes any: take yours in its place. On the command
# line the same request is
#
#     speechunlearn forget --model model --forget forget.csv --unseen unseen.csv --out unlearned

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## What is needed
#
# The folder of a checkpoint, and a CSV that names the recordings: `path`, `label` and, where known,
# `speaker`. Paths are relative to the CSV's folder and may not lead out of it. Recordings that the
# model never saw (`unseen.csv`) are worth having: without them the report can't say what the model
# keeps on new speech, nor whether an attacker can tell that the clips were trained on.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd

from speechunlearn.lab import example, experiments

study = run.study("validation", runs=run.profile.runs[:1])
seed, forget_id = study.runs[0]
desk, home = tempfile.TemporaryDirectory(), Path.cwd()
os.chdir(desk.name)  # so that names are short
forget_set = experiments.ranked_forget_set(study, forget_id)
given = example.write(
    study, forget_set, seed, Path(), references=range(study.profile.references)
)
pd.read_csv(given.forget).drop(columns="path").head()

# %%
pd.DataFrame(
    {file: pd.read_csv(file).groupby("label").size() for file in given[1:4]}
).fillna(0).astype(int).T

# %% [markdown]
# ## The request
#
# Three lines. The model's folder is not touched; `unlearned` gets a checkpoint with the same
# labels, the report as a page and as JSON, and a section for the model card. If the process is
# killed, the same call resumes where it stopped.

# %%
from speechunlearn.tool import forget

done = forget(
    given.model, given.forget, out="unlearned", unseen=given.unseen, method=method, seed=seed,
)
print(done.summary())

# %% [markdown]
# The first line is the {ref}`verdict <verdict>`, and here it cannot be told whether the model
# forgot: only models trained without the clips show what the clips' losses *ought* to be now. So
# the line says how far the answers moved, and no more. What could not be assessed is part of the
# answer, too.

# %%
sorted(path.name for path in done.out.iterdir())

# %% tags=["nbval-ignore-output"]
print((done.out / "README.md").read_text())

# %% [markdown]
# transformers loads it as it loads the original:

# %%
from transformers import AutoModelForAudioClassification

network = AutoModelForAudioClassification.from_pretrained("unlearned")
[network.config.id2label[i] for i in range(network.config.num_labels)]

# %% [markdown]
# ## The audit of someone else's
#
# The audit alone takes any checkpoint that is said to have forgotten. Here it gets what a team that
# can retrain would have: models retrained without the clips, from several seeds. Beside them the
# model has a report card: each score either lies where one more retrained model's would, or not.
# The card decides the verdict, but before a pass counts, the card is tried on models that are known
# not to have forgotten: the original, and mixtures in which it answers some of the clips.
# `--require` on the command line makes any verdict but *indistinguishable from retraining* an exit
# status.

# %%
from speechunlearn.tool import audit

judged = audit(
    "unlearned", given.forget, unseen=given.unseen, retain=given.retain, original=given.model,
    references=given.references, out="audit",
)
print(judged.summary())

# %%
from speechunlearn.chapters import pages

pages.card(pd.DataFrame(judged.report["cards"]["model"]["scores"]))

# %% [markdown]
# The report as it is written, of this run:

# %% tags=["nbval-ignore-output"]
import html

from IPython.display import display

page = html.escape(Path("audit/report.html").read_text())
style = "width: 100%; height: 32rem; border: 1px solid #8888; border-radius: 4px"
frame = f'<iframe title="The report of the audit" srcdoc="{page}" style="{style}"></iframe>'
display({"text/html": frame}, raw=True)

# %% [markdown]
# ## Several requests
#
# Letters come one after another. A ledger is a CSV with one row per request (`id`, `forget`,
# optionally `retain`, `unseen`, `method`, `seed`). Each is carried out on the model that the one
# before left; one that fails is recorded with its reason, and the next one goes on. *Done* means
# carried out; whether the model forgot is what the verdict beside it says. A recording that was
# requested for deletion can't later be listed as one to keep.

# %%
from speechunlearn.tool import ledger

clips = pd.read_csv(given.forget)
half = len(clips) // 2
clips[:half].to_csv("first.csv", index=False)
clips[half:].to_csv("second.csv", index=False)
Path("ledger.csv").write_text(
    "id,forget,unseen,method\n"
    f"2026-001,first.csv,unseen.csv,{method}\n"
    f"2026-002,lost.csv,unseen.csv,{method}\n"
    f"2026-003,second.csv,unseen.csv,{method}\n"
)
ledger.run(given.model, "ledger.csv", "ledger")

# %% [markdown]
# On the command line: `speechunlearn ledger ledger.csv --model model --out ledger`. Run again after
# `lost.csv` was found, it does that request alone, on the newest model.

# %%
os.chdir(home)
desk.cleanup()
