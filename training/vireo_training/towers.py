"""The two towers: ids to a unit vector, pixels to a unit vector.

Both take what is cheap to send and give what is ready to search: everything between (mask,
positions, normalisation of pixels, projection, L2 norm) is inside the graph.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vireo_client.errors import TrainingError

from .config import ImageTowerConfig, TextTowerConfig
from .resolve import image_spec, resolve_image
from .torchvision_ops import ensure_torchvision

# Masked attention scores: finite, so that FP16 engines hold it and a row never becomes NaN.
_MASKED = -1e4


class ProjectionHead(nn.Module):
    """Linear, GELU, linear, added to the first linear's output, layer norm; then unit length."""

    def __init__(self, width: int, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.input = nn.Linear(width, embedding_dim)
        self.hidden = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """FP32 `[N, width]` to unit vectors FP32 `[N, embedding_dim]`."""
        projected = self.input(features)
        mixed = projected + self.dropout(self.hidden(F.gelu(projected)))
        return F.normalize(self.norm(mixed.float()), dim=-1)


class _Block(nn.Module):
    """Pre-norm self-attention and feed-forward (Xiong et al., 2020, "On Layer Normalization")."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=p)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(n, length, width)), p)
        out: Tensor = x + self.mlp(x)
        return out


class TextTower(nn.Module):
    """A small Transformer encoder over `input_ids`; the first token's state is the sentence."""

    def __init__(
        self, config: TextTowerConfig, vocab_size: int, pad_id: int, embedding_dim: int
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.tokens = nn.Embedding(vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.buckets[-1], config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            _Block(config.width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = ProjectionHead(config.width, embedding_dim, config.dropout)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, input_ids: Tensor) -> Tensor:
        """INT32 or INT64 `[N, L]`, padded with `pad_id`, to unit vectors FP32 `[N, D]`."""
        bias = (input_ids == self.pad_id).float()[:, None, None, :] * _MASKED
        x = self.dropout(self.tokens(input_ids) + self.positions[: input_ids.shape[1]])
        for block in self.blocks:
            x = block(x, bias)
        out: Tensor = self.head(self.norm(x[:, 0]))
        return out


class ImageTower(nn.Module):
    """Any timm model over raw pixels, with a projection head."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ImageTowerConfig, embedding_dim: int, *, load: bool) -> None:
        super().__init__()
        ensure_torchvision()
        import timm

        pooling = {"global_pool": ""} if config.pool == "grid" else {}
        try:
            self.backbone = timm.create_model(
                config.name,
                pretrained=load and config.weights == "timm",
                **{"num_classes": 0, **config.kwargs, **pooling},
            )
        except Exception as error:  # timm and the hub raise many kinds
            raise TrainingError(_cannot_build(config, error)) from error
        if load and config.weights not in (None, "timm"):
            load_backbone(self.backbone, Path(str(config.weights)))
        self.frozen = config.freeze
        if self.frozen:
            self.backbone.requires_grad_(False)
        spec = image_spec(resolve_image(config))
        scale = torch.tensor(255.0)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * scale, False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * scale, False)
        with torch.no_grad():
            self.backbone.eval()
            width = self._features(torch.zeros(1, 3, spec.size, spec.size)).shape[1]
        self.head = ProjectionHead(width, embedding_dim)

    def _features(self, normalised: Tensor) -> Tensor:
        features: Tensor = self.backbone(normalised)
        return features.flatten(1)

    def features(self, pixels: Tensor) -> Tensor:
        """UINT8 `[N, 3, H, W]` to the backbone's features `[N, width]`."""
        x = (pixels.float() - self.mean) / self.std
        if self.frozen:
            with torch.no_grad():
                return self._features(x)
        return self._features(x)

    def forward(self, pixels: Tensor) -> Tensor:
        """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        out: Tensor = self.head(self.features(pixels))
        return out

    def train(self, mode: bool = True) -> ImageTower:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()  # batch statistics stay as they were loaded
        return self


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Loads pretrained weights from a local file or folder; classifier weights are left out.

    Raises:
        TrainingError: no such file, or its tensors do not fit the model.
    """
    from timm.models import load_state_dict

    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise TrainingError(
            f"image weights {path}: no such file; give a safetensors or PyTorch file, "
            "or leave image.weights out to train from scratch"
        )
    try:
        state = load_state_dict(str(path))
    except Exception as error:
        raise TrainingError(f"image weights {path}: cannot be read ({error})") from error
    wanted = backbone.state_dict()
    missing = sorted(set(wanted) - set(state))
    misfits = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    if missing or misfits:
        what = f"{len(missing)} missing, {len(misfits)} of another shape"
        raise TrainingError(
            f"image weights {path}: do not fit the model ({what}; first: {(missing + misfits)[0]})"
        )
    backbone.load_state_dict({name: state[name] for name in wanted})


def _cannot_build(config: ImageTowerConfig, error: Exception) -> str:
    advice = (
        "the weights could not be fetched; give image.weights=FILE, or leave it out to train "
        "from scratch"
        if config.weights == "timm"
        else "see timm.list_models() for names, and image.kwargs"
    )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"image tower {config.name!r}: cannot be built ({reason}); {advice}"
