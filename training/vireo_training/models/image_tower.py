"""The image tower: any timm model over raw pixels."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from vireo_client.errors import TrainingError, first_line

from ..config import ImageTowerConfig
from .heads import make_head
from .hub import cannot_fetch, offline
from .resolve import image_spec, resolve_image, weights_folder
from .torchvision_ops import ensure_torchvision
from .tower import Tower

_KWARGS = frozenset({
    "aa_layer", "act_layer", "attn_drop_rate", "avg_down", "base_width", "block_args",
    "cardinality", "channels", "class_token", "conv_bias", "conv_mlp", "depth", "depths", "dim",
    "dims", "drop_block_rate", "drop_path_rate", "drop_rate", "dynamic_img_pad",
    "dynamic_img_size", "embed_dim", "embed_dims", "expand_ratio", "fc_norm", "final_norm",
    "fix_stem", "global_pool", "groups", "head_dim", "head_hidden_size", "head_init_scale",
    "head_norm_first", "heads", "img_size", "in_chans", "init_values", "kernel_size",
    "kernel_sizes", "layer_scale_init_value", "layers", "ls_init_value", "mlp_ratio",
    "mlp_ratios", "no_embed_class", "norm_eps", "norm_layer", "num_heads", "num_kv_heads",
    "num_reg_tokens", "output_stride", "pad_type", "patch_drop_rate", "patch_size", "pool_size",
    "pool_type", "pos_drop_rate", "pos_embed", "pre_norm", "proj_bias", "proj_drop_rate",
    "qk_norm", "qkv_bias", "qkv_fused", "reg_tokens", "rope_type", "scale_mlp", "se_layer",
    "se_ratio", "sr_ratios", "stem_chs", "stem_size", "stem_type", "stem_width",
    "strict_img_size", "swiglu_mlp", "use_abs_pos_emb", "use_fc_norm", "use_grn", "use_post_norm",
    "use_rel_pos_bias", "use_rot_pos_emb", "weight_init", "width", "width_factor", "widths",
    "window_ratio", "window_size", "zero_init_last",
})  # fmt: skip
"""Settings of architectures. `timm.create_model` has others, which name files (`checkpoint_path`),
addresses and folders: a bundle that somebody else wrote may not set those."""

_FROM_SCRATCH = (
    "give image.weights=FILE, or train from scratch with --set image.weights=null "
    "--set image.freeze=false --set image.unfreeze_after=null --set warm_start=false"
)


class ImageTower(Tower):
    """Any timm model over raw pixels, with a projection head.

    Takes UINT8 `[N, 3, H, W]`; `project` alone takes features `[N, width]`, such as those a frozen
    backbone gave before.

    Args:
        config: its settings.
        embedding_dim: D.
        load: load the pretrained weights that `config` names, or leave them random because others
            follow.

    Raises:
        TrainingError: timm has no such model or setting, or the weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ImageTowerConfig, embedding_dim: int, *, load: bool) -> None:
        config = resolve_image(config)
        spec = image_spec(config)
        backbone = _make_backbone(config, load=load)
        if config.checkpointing:
            _checkpoint_gradients(backbone, config.name)
        width = _feature_width(backbone, config.name, spec.size)
        super().__init__(
            backbone, make_head(config.head, width, embedding_dim), frozen=config.freeze
        )
        scale = torch.tensor(255.0)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * scale, False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * scale, False)

    def _encode(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.backbone((inputs.float() - self.mean) / self.std)
        return features.flatten(1)

    def _backbone_layers(self) -> Iterable[Iterable[nn.Parameter]]:
        from timm.models import group_parameters

        matcher = self.backbone.group_matcher(coarse=False)  # type: ignore[operator]
        names = group_parameters(self.backbone, matcher)
        parameters = dict(self.backbone.named_parameters())
        return [[parameters[name] for name in names[layer]] for layer in sorted(names)]


def classifier_weights(config: ImageTowerConfig, classes: int) -> Tensor | None:
    """Return the weights of the classifier that the tower was trained with.

    Args:
        config: of a tower with pretrained weights.
        classes: how many the classifier tells apart. One more is taken for a background class
            before the others, as TensorFlow's towers have it.

    Returns:
        FP32 `[classes, W]`, in the space of the tower's features; None if its weights have no such
        classifier, or the features are not what it was on top of.

    Raises:
        TrainingError: the weights cannot be had.
    """
    backbone = _make_backbone(config, load=False)
    name = getattr(backbone, "pretrained_cfg", {}).get("classifier")
    if config.pool != "model" or not isinstance(name, str):
        return None
    if config.weights == "timm":
        state = _make_backbone(config, load=True, classifier=True).state_dict()
    else:
        state = _read_weights(backbone, weights_folder(str(config.weights)))
    weights = state.get(f"{name}.weight")
    if weights is None or weights.ndim < 2:
        return None
    weights = weights.detach().float().flatten(1)
    weights = weights[len(weights) - classes :] if len(weights) == classes + 1 else weights
    width = _feature_width(backbone, config.name, image_spec(config).size)
    return weights if weights.shape == (classes, width) else None


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load pretrained weights from a local file or folder; classifier weights are left out.

    Position tables of another image size are resampled, by timm's own filter of the model.

    Raises:
        TrainingError: no such file, or its tensors do not fit the model.
    """
    state = _read_weights(backbone, path)
    wanted = backbone.state_dict()
    missing = sorted(set(wanted) - set(state))
    misfits = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    if missing or misfits:
        what = f"{len(missing)} missing, {len(misfits)} of another shape"
        raise TrainingError(
            f"image weights {path}: do not fit the model ({what}; first: {(missing + misfits)[0]})"
        )
    backbone.load_state_dict({name: state[name] for name in wanted})


def _read_weights(backbone: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, by timm's names for them."""
    from timm.models import load_state_dict

    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise TrainingError(
            f"image weights {path}: no such file; give a safetensors or PyTorch file, "
            "or leave image.weights out to train from scratch"
        )
    try:
        state: dict[str, Tensor] = load_state_dict(str(path), weights_only=True)
        adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
        return adapt(state, backbone) if adapt else state
    except Exception as error:
        raise TrainingError(
            f"image weights {path}: cannot be read ({type(error).__name__}: {error}); give a "
            "safetensors or PyTorch file"
        ) from error


def _make_backbone(config: ImageTowerConfig, *, load: bool, classifier: bool = False) -> nn.Module:
    ensure_torchvision()
    import timm

    _check_settings(config)
    from_timm = load and config.weights == "timm"
    # Without a download timm needs the path of the file: it would ask the hub for cached files too.
    file = _cached_weights(config.name) if from_timm and offline() else None
    settings: dict[str, Any] = {**({} if classifier else {"num_classes": 0}), **config.kwargs}
    if config.pool == "grid":
        settings["global_pool"] = ""
    if file is not None:
        settings["pretrained_cfg_overlay"] = {"file": file}
    try:
        backbone: nn.Module = timm.create_model(config.name, pretrained=from_timm, **settings)
    except Exception as error:  # timm and the hub raise many kinds
        if from_timm and not isinstance(error, TypeError):  # that is of a setting in kwargs
            what = _weights(config.name)
            raise TrainingError(cannot_fetch(what, error, _FROM_SCRATCH)) from error
        reason = first_line(error)
        raise TrainingError(
            f"image tower {config.name!r}: cannot be built ({reason}); see timm for image.kwargs"
        ) from error
    if load and config.weights not in (None, "timm"):
        load_backbone(backbone, weights_folder(str(config.weights)))
    return backbone


def _check_settings(config: ImageTowerConfig) -> None:
    """Refuse a name that timm would take from a hub or a folder, and settings that name files.

    Raises:
        TrainingError: the name is none of timm's own, or a setting is none of an architecture.
    """
    from timm.models import is_model

    if not is_model(config.name):
        raise TrainingError(
            f"image tower {config.name!r}: timm has no such model; `timm.list_models()` names them"
        )
    if unknown := sorted(set(config.kwargs) - _KWARGS):
        raise TrainingError(
            f"image tower {config.name!r}: cannot be built (image.kwargs.{unknown[0]} is no "
            f"setting of an architecture); image.kwargs takes {', '.join(sorted(_KWARGS))}"
        )


def _weights(name: str) -> str:
    return f"timm's pretrained weights of {name!r}"


def _cached_weights(name: str) -> str:
    """Return the path of timm's weights in the hub's cache.

    Raises:
        TrainingError: they are not there.
    """
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name)
    for file in ("model.safetensors", "pytorch_model.bin"):
        if known is not None and known.hf_hub_id:
            path = try_to_load_from_cache(known.hf_hub_id, file)
            if isinstance(path, str):
                return path
    raise TrainingError(cannot_fetch(_weights(name), FileNotFoundError(), _FROM_SCRATCH))


def _checkpoint_gradients(backbone: nn.Module, name: str) -> None:
    try:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError, TypeError) as error:
        raise TrainingError(
            f"image tower {name!r}: timm cannot compute its activations again; "
            "set image.checkpointing=false"
        ) from error


def _feature_width(backbone: nn.Module, name: str, size: int) -> int:
    """Return the width of the features, found by one pass over an empty image."""
    training = backbone.training
    try:
        with torch.no_grad():
            features: Tensor = backbone.eval()(torch.zeros(1, 3, size, size))
    except Exception as error:  # assertions and shape errors of many models
        reason = first_line(error)
        raise TrainingError(
            f"image tower {name!r}: does not take images of {size} x {size} ({reason}); "
            "set image.size to what it takes"
        ) from error
    backbone.train(training)
    return features.flatten(1).shape[1]
