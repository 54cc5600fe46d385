"""A Hugging Face folder of the text tower's architecture, which other projects load."""

from __future__ import annotations

import shutil
from pathlib import Path

from vireo_client.bundle import Bundle

from .build import Built


def text_folder(built: Built) -> Path:
    """Return a folder of PhoBERT's architecture with random weights and the bundle's tokenizer.

    It is made unless it is there. Speed does not depend on weights; the embeddings mean nothing.
    """
    folder = built.folder / "huggingface"
    if (folder / ".complete").is_file():
        return folder
    import torch
    from vireo_training.models.torchvision_ops import ensure_torchvision
    from vireo_training.presets import load_config

    ensure_torchvision()  # transformers imports torchvision
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    shutil.rmtree(folder, ignore_errors=True)
    bundle = Bundle(built.bundle)
    text = bundle.config.text
    architecture = dict(load_config("vireo-base").text.architecture)
    architecture |= {"vocab_size": text.vocab_size, "pad_token_id": text.pad_id}
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(**architecture), add_pooling_layer=False).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(bundle.tokenizer_file), model_max_length=text.buckets[-1]
    )
    pad = tokenizer.convert_ids_to_tokens(text.pad_id)
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(folder)
    # The class has this name in older versions of transformers too, the other has not.
    config = folder / "tokenizer_config.json"
    words = config.read_text(encoding="utf-8").replace(
        "TokenizersBackend", "PreTrainedTokenizerFast"
    )
    config.write_text(words, encoding="utf-8")
    (folder / ".complete").touch()
    return folder
