# %% [markdown]
# # Other models, and models trained otherwise
#
# *Does what holds for wav2vec 2.0 hold for other models, and for clips without labels?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "keyword"  # what the model names

# %%
from speechunlearn.chapters import context

run = context.start(profile, corpus, root, encoder, skip_bad, cache, results, task=task)

# %% tags=["answer"]
from speechunlearn.chapters import answers, other_models, pages
from speechunlearn.lab.results import with_interval

judged = other_models.claims(other_models.rows())
remembers = judged[judged["claim"] == next(iter(other_models.CLAIMS))]
said = [
    f"{other_models.TITLES[row.architecture]} {with_interval(row.value, row.low, row.high)} "
    f"(n = {row.runs} runs)"
    for row in remembers.itertuples()
]
pages.write(
    "By how much an attack on the loss knows the clips better on the original than on models "
    f"retrained without them, AUC: {'; '.join(said)}. Of {len(judged)} pairs of a claim and "
    f"an architecture, {answers.counted(judged['verdict'])}. (Arabic words; wav2vec 2.0 from "
    "`nano-english`, Moonshine tiny from its pre-trained weights, the others from random ones.)"
)

# %% [markdown]
# The chapters before this one rest on one architecture, trained on labels. All methods and the audit
# run unchanged on five others: the Audio Spectrogram Transformer (AST, {cite:t}`gong2021ast`),
# Whisper's encoder {cite}`radford2023robust`, HuBERT {cite}`hsu2021hubert`, WavLM
# {cite}`chen2022wavlm` and Moonshine tiny; `tests/test_other_models.py` runs each of them on each, with
# random weights. That a method runs does not say that it works: which claims carry over is measured,
# and the table below says for which architectures it has been. And one model is trained
# semi-supervised, by FixMatch {cite}`sohn2020fixmatch`, on clips most of which have no label: what is
# there to forget of a clip whose label nobody gave?

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## FixMatch's loss, rebuilt
#
# An unlabelled clip is heard twice: weakly altered, and strongly. Where the model is sure of the
# first, its answer becomes the label of the second. That is all that training ever asks about the
# clip, so that a trace of it is a loss that is too small: the *consistency loss*.

# %% tags=["component"]
import torch
from torch.nn.functional import cross_entropy


def consistency(of_weak, of_strong, threshold):
    """FixMatch's loss of a batch: the sure answers are labels, the others count 0."""
    sure, said = of_weak.softmax(1).max(1)
    losses = cross_entropy(of_strong, said, reduction="none")
    return (losses * (sure >= threshold)).mean()

# %% [markdown]
# Four clips of the smoke corpus, and a network with random weights. The weak view is moved by a
# twentieth of its length, the strong one has noise as well and a fifth of its time at 0.

# %%
study = run.study()
clips = study.train.at(range(4))
model = study.fresh(0).cpu().eval()
generator = torch.Generator().manual_seed(0)


def views(waveform_z):
    """A clip weakly, and strongly altered."""
    weak = waveform_z.roll(len(waveform_z) // 20)
    strong = weak + 0.3 * torch.randn(len(weak), generator=generator)
    strong[: len(strong) // 5] = 0
    return weak, strong


def logits_of(waveforms):
    """What the network says of clips, each alone."""
    with torch.no_grad():
        return torch.cat([model(w[None], torch.tensor([len(w)])) for w in waveforms]).double()


pairs = [views(waveform_z) for waveform_z in clips.waveforms_z]
of_weak, of_strong = (logits_of(side) for side in zip(*pairs, strict=True))
threshold = of_weak.softmax(1).max(1).values.median().item()

# %% tags=["agrees"]
import numpy as np

from speechunlearn.audit import membership

# clip by clip in numpy: the audit's own cross-entropy of the answer to the weak view
sure = of_weak.softmax(1).max(1).values.numpy() >= threshold
said = of_weak.argmax(1).numpy()
by_clip = membership.features(of_strong.numpy(), said)["loss"].to_numpy()
assert np.isclose(consistency(of_weak, of_strong, threshold), np.mean(by_clip * sure))
assert consistency(of_weak, of_strong, 1.01) == 0  # nobody is as sure as that
print("The loss of a batch: equal to the clips' own, of the sure ones")

# %% [markdown]
# ## On real speech: which claims carry over
#
# Arabic words ({doc}`../book/corpora/arabic_speech_commands`). *wav2vec 2.0* is `nano-english` of the
# chapter on keywords, with its smallest forget sets and tuned methods. *AST, plain loop* is of the
# requests of 16 clips of the chapter on requests: {doc}`11_request`. `benchmarks/architectures.py`
# trains small networks of the others from random weights on ten words, and Moonshine tiny from its
# pre-trained ones: of six models of an architecture each hears three of six disjoint forget sets of 30
# clips, so that every set has an original and three models retrained without it, and nothing is tuned
# anew. Of the method of `forget` they were given a **reduced variant**: at most 60 steps, at ten times
# the learning rate; *AST, plain loop* had the method itself. *Yes* and *no* are said where the 95 %
# t-interval over runs lies on one side of 0.

# %%
import pandas as pd

from speechunlearn.chapters import other_models

judged = other_models.claims(other_models.rows())
verdicts = judged["verdict"] + " (n\u00a0=\u00a0" + judged["runs"].astype(str) + ")"
wide = judged.assign(cell=verdicts).pivot(index="claim", columns="architecture", values="cell")
wide = wide.reindex([claim for claim in other_models.CLAIMS if claim in wide.index])
wide.fillna("not run").rename(columns=other_models.TITLES).rename_axis(columns=None)

# %% [markdown]
# That the original remembers carries over to every architecture. What methods do with hyperparameters
# that were found for another network does not: on none of the four that were trained here from random
# weights does one of the three that use the forget set alone close half of the gap in loss. That was to
# be expected of a reduced variant, and is no verdict on the method itself.
#
# Moonshine tiny is another case: it names these words whether it was trained on the clips or not. An attack
# still tells the two apart, but in loss and UAR there is next to nothing to forget, and every method goes
# past it. There *yes* in the rows on the gap means that the loss ends far above the retrained models', and
# the unseen speakers pay for it. What it was pre-trained on cannot be shown here: its retrained models
# are fine-tuned anew without the clips, from the same weights.

# %% [markdown]
# The first claim, drawn: right of the dotted line the original remembers.

# %% tags=["figure-claim_intervals"]
from speechunlearn.chapters import figures

remembers = judged[judged["claim"] == next(iter(other_models.CLAIMS))].iloc[::-1]
names = remembers["architecture"].map(other_models.TITLES)
figure, axis = figures.panels(6, 0.8 + 0.4 * len(names))
axis.axvline(0, color="black", linestyle=":")
axis.hlines(range(len(names)), remembers["low"], remembers["high"], color="black")
axis.plot(remembers["value"], range(len(names)), "o", color="black")
axis.set_yticks(range(len(names)), names)
axis.set_xlabel("AUC of the original, less the retrained models'");

# %% [markdown]
# How much, in the units of each claim:

# %%
judged.drop(columns="verdict").replace({"architecture": other_models.TITLES}).set_index(
    ["claim", "architecture"]
)

# %% [markdown]
# What these differences are differences of: means over runs of the loss on the forget set in thousandths of
# a nat, of the attack's AUC, and of UAR on unseen speakers.

# %%
levels = other_models.rows().replace({"architecture": other_models.TITLES})
levels["method"] = levels["method"].str.split().str[0]
levels["loss, thousandths"] = 1000 * levels["loss"]
levels.query("method in ('original', 'retrained')").groupby(
    ["architecture", "method"], sort=False
)[["loss, thousandths", "auc", "unseen_uar"]].mean()

# %% [markdown]
# And after unlearning, Moonshine tiny:

# %%
levels[levels["architecture"] == "Moonshine tiny"].groupby("method", sort=False)[
    ["loss, thousandths", "auc", "unseen_uar"]
].mean()

# %% [markdown]
# ## An unlabelled clip
#
# A small convolutional network on log mel spectrograms, trained by FixMatch: a hundred clips have
# labels, all others, the clips to forget among them, have none. To forget is to answer as models
# that were trained without these unlabelled clips. Methods that need labels were given the model's
# own answers. The attack calls a clip a member where its consistency loss is low; AUC is against
# clips that no model heard.

# %%
from speechunlearn.audit import statistics
from speechunlearn.lab import results as protocol

said = pd.read_csv(other_models.RESULTS.with_name("fixmatch.csv"))
said["method"] = said["method"].str.split().str[0]  # of three retrained models of a run, the mean
by_run = said.groupby(["method", "run"], sort=False)[["consistency", "auc", "unseen_uar"]].mean()
means = {
    name: {score: statistics.t_interval(of[score].to_numpy()) for score in of}
    for name, of in by_run.groupby("method", sort=False)
}
columns = {
    "consistency": "consistency loss (nats)", "auc": "attack AUC", "unseen_uar": "unseen UAR",
}
table = pd.DataFrame(means).T.map(lambda interval: protocol.with_interval(*interval))
table.insert(0, "runs", by_run.groupby("method").size())
titles = {name: protocol.TITLES.get(name, name.capitalize()) for name in means}
table.rename(index=titles, columns=columns).rename_axis("method")

# %% [markdown]
# Where the intervals of the original and of the retrained models overlap, nothing shows that the
# unlabelled clips were remembered, and nothing that a method did can be told from forgetting: what
# it changes then is the model, not the memory.

# %%
from speechunlearn.chapters import pages

original, retrained = means["original"], means["retrained"]
texts = table.loc[["original", "retrained"]].to_dict("index")
apart = original["auc"][1] > retrained["auc"][2]  # the ends that face each other
remembered = (
    "the intervals do not overlap: the unlabelled clips are remembered" if apart else
    "the intervals overlap: undecided whether the unlabelled clips are remembered"
)
pages.write(
    f"The attack on the consistency loss has an AUC of {texts['original']['auc']} on the original "
    f"and of {texts['retrained']['auc']} on retrained models (n = {texts['original']['runs']} "
    f"runs); {remembered}. The loss itself is {texts['original']['consistency']} nats beside "
    f"{texts['retrained']['consistency']}."
)

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is on a small synthetic corpus and networks with random
# weights: it shows that a method runs on each architecture, and decides nothing. The real numbers:
#
#     python -m benchmarks.architectures --root arabic_speech_commands --work models
#     python -m benchmarks.fixmatch --root arabic_speech_commands --work models

# %%
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
)

from speechunlearn import methods
from speechunlearn.models.classifier import NANO, Classifier, Frontend, seeded
from speechunlearn.tool.checkpoints import FilterBankClassifier

number = {"num_labels": len(study.labels)}
with seeded(0):
    of_patches = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_length=100, num_mel_bins=64, **number,
    )
    kinds = {
        "AST": FilterBankClassifier(
            ASTForAudioClassification(of_patches), list(study.labels),
            ASTFeatureExtractor(max_length=100, num_mel_bins=64),
        ),
        "HuBERT": Classifier(
            HubertForSequenceClassification(HubertConfig(**NANO | number)), study.labels,
            Frontend(),
        ),
    }
asked = methods.UnlearningData(clips, len(study.labels), retain=study.train.at(range(4, 12)))
rows = []
for title, original in kinds.items():
    for name in ("ran_lab", "finetune", "cf_k"):
        parameters = methods.parameters(name, epochs=1)
        outcome = methods.get(name).unlearn(original.eval(), asked, parameters, seed=0)
        pairs = zip(original.parameters(), outcome.model.parameters(), strict=True)
        moved = sum(not torch.equal(before, after) for before, after in pairs)
        rows.append({"architecture": title, "method": name, "weight matrices moved": moved})
pd.DataFrame(rows)

# %% [markdown]
# ## What to remember
#
# - A method that asks a model for no more than its answers and gradients runs on any architecture;
#   that its hyperparameters are right there is another claim.
# - What a claim rests on has to be measured anew: an interval that holds 0 is *undecided*, not *no*.
# - A clip without a label can leave a trace where training asked about it: in the consistency of the
#   answers to its altered views.
#
# ## Exercises
#
# **1.** Which clips does FixMatch not learn from at all?

# %% tags=["solution", "hide-cell"]
weak_logits = of_weak.clone()
unsure = of_weak.softmax(1).max(1).values < threshold
changed = of_strong.clone()
changed[unsure] = -changed[unsure]
first = consistency(weak_logits, of_strong, threshold)
assert torch.isclose(first, consistency(weak_logits, changed, threshold))
print("Those it is not sure of: whatever it answers to their strong view, the loss is the same.")

# %% [markdown]
# **2.** Does the true label of an unlabelled clip matter to the loss?

# %% tags=["solution", "hide-cell"]
import inspect

assert "labels" not in inspect.signature(consistency).parameters
swapped = clips.relabelled(clips.labels.flip(0))
assert all(torch.equal(a, b) for a, b in zip(clips.waveforms_z, swapped.waveforms_z, strict=True))
print("No: it never sees it. What is to be forgotten is the model's own answer.")
