"""Models and clips small enough to unlearn in a test."""

from types import SimpleNamespace

import torch
from torch import Tensor

from speechunlearn.dataset.clips import Clips
from speechunlearn.models import classifier as classifier_module
from speechunlearn.models.classifier import Classifier, Frontend

#: the architecture of ``nano``, about 10,000 parameters; no dropout
WAV2VEC2 = {
    "conv_kernel": (32, 4), "conv_stride": (16, 2), "conv_dim": (16, 16),
    "num_feat_extract_layers": 2, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16,
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
}  # fmt: skip


class Linear(torch.nn.Module):
    """Logits linear in the samples, whose gradients can be written down."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.clone())
        self.bias = torch.nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.clone())

    def forward(self, waveform_z: Tensor, lengths: Tensor) -> Tensor:
        samples = waveform_z.to(self.weight)
        return samples @ self.weight[:, : samples.shape[1]].T + self.bias


class Network(torch.nn.Module):
    """A convolution, the mean over the frames of a clip, dropout and a linear layer."""

    def __init__(self, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv1d(1, 12, 32, stride=16)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(12, n_classes)

    def forward(self, waveform_z: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        frames = torch.relu(self.convolution(waveform_z[:, None]))
        counts = (attention_mask.sum(1) - 32) // 16 + 1
        inside = torch.arange(frames.shape[2]) < counts[:, None]
        pooled = (frames * inside[:, None]).sum(2) / counts[:, None]
        return SimpleNamespace(logits=self.head(self.dropout(pooled)))


def classifier(n_classes: int = 3, seed: int = 0, dropout: float = 0.1) -> Classifier:
    """A classifier that trains in a second, in eval mode."""
    labels = [f"class {i}" for i in range(n_classes)]
    with classifier_module.seeded(seed):
        return Classifier(Network(n_classes, dropout), labels, Frontend()).eval()


def wav2vec2(n_classes: int = 3, seed: int = 0, **config: object) -> Classifier:
    """A wav2vec 2.0 classifier of the shape of ``nano``, in eval mode."""
    labels = [f"class {i}" for i in range(n_classes)]
    return classifier_module.build("nano", labels, seed, **(WAV2VEC2 | config)).eval()


def clips(n: int, n_classes: int = 3, seed: int = 0, noise: float = 1.0) -> Clips:
    """Noisy tones, 400 to 800 samples; the class is the pitch, the hash tells the clip."""
    generator = torch.Generator().manual_seed(seed)
    waveforms_z = []
    for i in range(n):
        length = int(torch.randint(400, 801, (1,), generator=generator))
        tone = torch.sin(0.1 * (1 + 2 * (i % n_classes)) * torch.arange(length))
        waveform = tone + noise * torch.randn(length, generator=generator)
        waveforms_z.append((waveform - waveform.mean()) / waveform.std(correction=0))
    return Clips(
        waveforms_z,
        torch.arange(n) % n_classes,
        [f"{seed}-{i}" for i in range(n)],
        [f"speaker {i % 4}" for i in range(n)],
    )


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of every weight, to compare with later."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two states are the same, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
