"""Moonshine's speech encoder (Jeffries et al. 2024) as a classifier whose answers know no padding.

transformers' encoder is right for a clip alone. In a padded batch it is not: the group norm takes
its statistics over the padding, and its mask counts a frame by where it starts, not by what it
covers. Here a clip's own frames are counted, normalised, attended to and averaged, and no others.

Importing this registers the architecture with transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import gelu, layer_norm
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    MoonshineConfig,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.moonshine.modeling_moonshine import (
    MoonshineEncoder,
    MoonshinePreTrainedModel,
)

from speechunlearn.errors import ModelError, ParameterError

#: kernel and stride of each convolution
CONVOLUTIONS = ((127, 64), (7, 3), (3, 2))
#: samples of the shortest clip that has a frame
LEAST = 895

#: what a config holds beside Moonshine's own settings, and its defaults
_OWN: dict[str, Any] = {
    "input_scale": 1.0,  # the waveform is multiplied by it
    "classifier_proj_size": 256,
    "final_dropout": 0.1,
    "use_weighted_layer_sum": True,
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_time_length": 5,
    "mask_time_min_masks": 0,
    "mask_feature_prob": 0.0,
    "mask_feature_length": 8,
    "mask_feature_min_masks": 0,
}


class MoonshineClassifierConfig(MoonshineConfig):
    """Moonshine's config with a head's settings.

    It has a ``model_type`` of its own: transformers ignores a head that is registered for one of
    its own configs.
    """

    model_type = "moonshine_classifier"

    def __init__(self, **values: Any) -> None:
        super().__init__(**({"tie_word_embeddings": False} | _OWN | values))


class MoonshineForSequenceClassification(MoonshinePreTrainedModel):
    """The encoder, a weighted sum of its layers, the mean over a clip's frames, and a head.

    Args:
        config: with ``num_labels``

    """

    config_class = MoonshineClassifierConfig
    base_model_prefix = "encoder"  # a folder that holds the encoder alone loads
    #: names of the weights that a recipe's ``frontend_rate`` is for begin so
    front_end: Sequence[str] = ("encoder.conv", "encoder.groupnorm")
    # SpecAugment in training, as wav2vec 2.0 has it, and what it puts in place of a frame
    _mask_hidden_states: Any = Wav2Vec2Model._mask_hidden_states
    masked_spec_embed = torch.zeros(())

    def __init__(self, config: Any) -> None:  # settings that transformers keeps untyped
        super().__init__(config)
        self.encoder = MoonshineEncoder(config)
        if config.use_weighted_layer_sum:
            layers = config.encoder_num_hidden_layers + 1
            self.layer_weights = torch.nn.Parameter(torch.zeros(layers))
        self.projector = torch.nn.Linear(config.hidden_size, config.classifier_proj_size)
        self.dropout = torch.nn.Dropout(config.final_dropout)
        self.classifier = torch.nn.Linear(config.classifier_proj_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_values: Float[Tensor, "batch time"],
        attention_mask: Int[Tensor, "batch time"] | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Return logits; the mask says which samples are the clip's own, and they come first.

        Raises:
            ParameterError: a clip below `LEAST` samples

        """
        states, inside = self.states(input_values, attention_mask)
        if self.config.use_weighted_layer_sum:
            # their sizes differ a hundredfold: as they are, the sum would be the last layer
            alike = torch.stack([layer_norm(state, state.shape[-1:]) for state in states])
            hidden = (alike * self.layer_weights.softmax(0)[:, None, None, None]).sum(0)
        else:
            hidden = self.encoder.layer_norm(states[-1])
        hidden = gelu(self.projector(hidden)) * inside[:, :, None]
        mean = hidden.sum(1) / inside.sum(1, keepdim=True)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

    def states(
        self,
        input_values: Float[Tensor, "batch time"],
        attention_mask: Int[Tensor, "batch time"] | None = None,
    ) -> tuple[list[Float[Tensor, "batch frames width"]], Bool[Tensor, "batch frames"]]:
        """Return what each layer says, the convolutions first, and which frames are a clip's own.

        The last one comes before the encoder's final norm.
        """
        encoder, samples = self.encoder, input_values.shape[1]
        lengths = torch.full((len(input_values),), samples, device=input_values.device)
        if attention_mask is not None:
            lengths = attention_mask.sum(1)
        if int(lengths.min()) < LEAST:
            raise ParameterError(
                f"a clip of {int(lengths.min())} samples: Moonshine needs {LEAST} or more"
            )
        first, last = _frames(lengths, 1), _frames(lengths, 3)
        hidden = torch.tanh(encoder.conv1(self.config.input_scale * input_values[:, None]))
        hidden = self._normalised(hidden, _inside(first, hidden.shape[2]))
        hidden = gelu(encoder.conv3(gelu(encoder.conv2(hidden)))).transpose(1, 2)
        inside = _inside(last, hidden.shape[1])
        if hidden.shape[1] > self.config.mask_time_length:
            hidden = self._mask_hidden_states(hidden, attention_mask=inside.long())
        away = ((~inside).to(hidden.dtype) * torch.finfo(hidden.dtype).min)[:, None, None, :]
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        turned = encoder.rotary_emb(hidden, position_ids=positions)
        states = [hidden]
        for layer in encoder.layers:
            hidden = layer(
                hidden, attention_mask=away.expand(-1, 1, hidden.shape[1], -1),
                position_ids=positions, position_embeddings=turned,
            )
            states.append(hidden)
        return states, inside

    def _normalised(
        self, hidden: Float[Tensor, "batch width frames"], inside: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch width frames"]:
        """Return the group norm of one group, over a clip's own frames."""
        norm, own = self.encoder.groupnorm, inside[:, None].to(hidden.dtype)
        values = own.sum((1, 2), keepdim=True) * hidden.shape[1]
        centred = hidden - (hidden * own).sum((1, 2), keepdim=True) / values
        variance = ((centred * own) ** 2).sum((1, 2), keepdim=True) / values
        return (
            centred * torch.rsqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
        )


def load(source: str, **config: Any) -> MoonshineForSequenceClassification:
    """Load a classifier, or an encoder under a new head.

    Args:
        source: folder or hub id: of this classifier, of Moonshine's encoder alone, or of the whole
            of Moonshine, whose decoder is left
        config: overrides, e.g. ``num_labels``

    Raises:
        ModelError: weights of the encoder that are not there, or have another shape
        OSError: no such folder, or no weights in it

    """
    values, _ = MoonshineClassifierConfig.get_config_dict(source)
    strange = sorted(set(values.get("architectures") or ()) - _ARCHITECTURES)
    if strange:
        raise ModelError(f"{source!r} is a {strange[0]}, not a Moonshine of transformers")
    values = {key: value for key, value in values.items() if key not in _OF_A_FILE}
    found: Any = MoonshineForSequenceClassification.from_pretrained(
        source, config=MoonshineClassifierConfig(**(values | config)), output_loading_info=True,
        ignore_mismatched_sizes=True, key_mapping={r"^model\.encoder\.": "encoder."},
    )
    network, loaded = found  # transformers' types know the first alone
    absent = {*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])}
    absent = {key for key in absent if key.startswith("encoder.")}
    if absent:
        # transformers would go on with random weights in their place
        raise ModelError(f"{source!r} lacks weights of the encoder, such as {min(absent)!r}")
    return network


_ARCHITECTURES = {
    "MoonshineEncoder", "MoonshineModel", "MoonshineForConditionalGeneration",
    "MoonshineForSequenceClassification",
}  # fmt: skip
#: what a config file says of itself
_OF_A_FILE = ("architectures", "model_type", "transformers_version", "tie_word_embeddings")


def _frames(samples: Int[Tensor, " batch"], convolutions: int) -> Int[Tensor, " batch"]:
    """Return how many frames lie wholly inside so many samples, after some convolutions."""
    for kernel, stride in CONVOLUTIONS[:convolutions]:
        samples = (samples - kernel) // stride + 1
    return samples


def _inside(counts: Int[Tensor, " batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    return torch.arange(frames, device=counts.device) < counts[:, None]


AutoConfig.register(MoonshineClassifierConfig.model_type, MoonshineClassifierConfig)
AutoFeatureExtractor.register(MoonshineClassifierConfig, Wav2Vec2FeatureExtractor)
AutoModelForAudioClassification.register(
    MoonshineClassifierConfig, MoonshineForSequenceClassification
)
