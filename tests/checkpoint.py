"""Checkpoints of transformers' architectures, small enough to unlearn in a test, and clips."""

from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from speechunlearn.models.classifier import seeded
from speechunlearn.models.moonshine import (
    MoonshineClassifierConfig,
    MoonshineForSequenceClassification,
)

LABELS = ("low", "middle", "high")

_ON_WAVEFORMS = {
    "conv_dim": (16, 16), "conv_kernel": (32, 4), "conv_stride": (16, 2),
    "num_feat_extract_layers": 2, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16, "feat_extract_norm": "layer",
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
    "layerdrop": 0.0, "apply_spec_augment": False,
}  # fmt: skip
_AST = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_length": 64, "num_mel_bins": 32,
}  # fmt: skip
_WHISPER = {
    "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "max_source_positions": 50, "num_mel_bins": 20, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 20, "pad_token_id": 0,
    "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
MOONSHINE = {
    "hidden_size": 40, "intermediate_size": 64, "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 1, "encoder_num_attention_heads": 2,
    "decoder_num_attention_heads": 2, "vocab_size": 16, "pad_token_id": 2,
    "classifier_proj_size": 16,
}  # fmt: skip

#: name -> (config, model, feature extractor)
KINDS = {
    "wav2vec2": (
        Wav2Vec2Config(**_ON_WAVEFORMS), Wav2Vec2ForSequenceClassification,
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
    ),
    "wav2vec2, not normalised": (
        Wav2Vec2Config(**_ON_WAVEFORMS), Wav2Vec2ForSequenceClassification,
        Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True),
    ),
    "wav2vec2, no mask": (
        Wav2Vec2Config(**_ON_WAVEFORMS | {"feat_extract_norm": "group"}),
        Wav2Vec2ForSequenceClassification,
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False),
    ),
    "hubert": (
        HubertConfig(**_ON_WAVEFORMS), HubertForSequenceClassification,
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
    ),
    "wavlm": (
        WavLMConfig(**_ON_WAVEFORMS), WavLMForSequenceClassification,
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
    ),
    "ast": (
        ASTConfig(**_AST), ASTForAudioClassification,
        ASTFeatureExtractor(max_length=64, num_mel_bins=32),
    ),
    "whisper": (
        WhisperConfig(**_WHISPER), WhisperForAudioClassification,
        WhisperFeatureExtractor(feature_size=20, chunk_length=1),
    ),
    "moonshine": (
        MoonshineClassifierConfig(**MOONSHINE), MoonshineForSequenceClassification,
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
    ),
}  # fmt: skip


def write(folder: Path, kind: str = "wav2vec2", seed: int = 0) -> Path:
    """Write a checkpoint as transformers does, with random weights that tell clips apart."""
    config, architecture, extractor = KINDS[kind]
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: i for i, label in enumerate(LABELS)}
    with seeded(seed):
        network = architecture(config)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if name.startswith(("classifier", "projector")):
                    weight.normal_(0, 1.0)
    network.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def clips(folder: Path, name: str, n: int, seed: int, labels: tuple[str, ...] = LABELS) -> Path:
    """Write noisy tones whose pitch is their label, and a CSV of them."""
    rng = np.random.default_rng(seed)
    lines = ["path,label,speaker"]
    (folder / name).mkdir(parents=True)
    for i in range(n):
        time = np.arange(int(rng.integers(3200, 5600))) / 16000
        tone = np.sin(2 * np.pi * 200 * (1 + 2 * (i % len(labels))) * time)
        samples = 0.3 * tone + 0.1 * rng.standard_normal(len(time))
        soundfile.write(folder / name / f"{i}.wav", samples.astype(np.float32) * 0.5, 16000)
        lines.append(f"{name}/{i}.wav,{labels[i % len(labels)]},speaker {i % 4}")
    file = folder / f"{name}.csv"
    file.write_text("\n".join(lines) + "\n")
    return file
