"""Write tiny dual encoders with random weights by the libraries' own `save_pretrained`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.normalizers import NFC, BertNormalizer, Lowercase, Sequence
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from torch import nn

TEXTS = [
    "hai con chó chạy trên bãi cỏ",
    "hai con cho chay tren bai co",
    "MỘT NGÔI NHÀ MÀU ĐỎ bên Hồ Gươm",
    "Cô gái (áo dài trắng) đang cười!!! 3 chiếc xe máy, 2_3 chiếc ô tô...",
    "🐟🐟 “hai con cá” — biển xanh",
    "",
    "   ",
    "\tmột   dòng\nhai dòng ",
    "bãi biển Mỹ Khê lúc hoàng hôn " * 60,
    "co\u0301 mo\u0323\u0302t con me\u0300o",  # decomposed
    "Tom &amp; Jerry &lt;3",
    "khôngdấucách" * 30,
]
"""Texts that a user may type, for every tokenizer."""
_CORPUS = [text.strip() for text in TEXTS if text.strip()] + [
    "con mèo nằm ngủ trên ghế",
    "the quick brown fox jumps over the lazy dog",
    "người đàn ông đội nón lá bán hàng rong ngoài phố cổ",
]


def _corpus() -> Iterator[str]:
    return iter(_CORPUS * 3)


def byte_pairs(vocab_size: int = 500) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return CLIP-like vocabulary and merges over bytes: a word's last piece ends in `</w>`."""
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = Sequence([NFC(), Lowercase()])
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        _corpus(),
        BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    # Every byte inside a word and at its end, then the merged pieces, then the special tokens.
    pieces = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    pieces += [piece for pair in merges if (piece := "".join(pair)) not in pieces]
    pieces = [*list(dict.fromkeys(pieces)), "<|startoftext|>", "<|endoftext|>"]
    return {piece: number for number, piece in enumerate(pieces)}, merges


def clip_tokenizer(**settings: object):
    from transformers import CLIPTokenizer

    vocab, merges = byte_pairs()
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, **settings)


def bert_tokenizer():
    from transformers import BertTokenizer

    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=512)


def gemma_tokenizer():
    """Return a tokenizer like SigLIP 2's: character pairs, `▁` for blanks, `<eos>` at the end."""
    from transformers import GemmaTokenizer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="never")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    specials += [f"<0x{number:02X}>" for number in range(256)]
    trainer = BpeTrainer(vocab_size=600, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator((text.lower() for text in _corpus()), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return GemmaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
        model_max_length=64,
        model_input_names=["input_ids"],
    )


def unigram_pieces(specials: list[str], size: int = 400) -> list[tuple[str, float]]:
    """Return pieces and their scores like SentencePiece's."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    trainer = UnigramTrainer(
        vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]


def sentencepiece_tokenizer(folder: Path):
    """Return a tokenizer like the first SigLIP's, which runs SentencePiece in Python."""
    import sentencepiece
    from transformers import SiglipTokenizer

    folder.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text.lower() for text in _corpus()),
        model_prefix=str(folder / "spiece"),
        vocab_size=180,
        unk_id=2,
        bos_id=-1,
        eos_id=1,
        pad_id=0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SiglipTokenizer(str(folder / "spiece.model"), model_input_names=["input_ids"])


def xlm_roberta_tokenizer(longest: int = 77):
    from transformers import XLMRobertaTokenizer

    pieces = unigram_pieces(["<s>", "<pad>", "</s>", "<unk>"])
    return XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)], model_max_length=longest)


def awaken(model: nn.Module) -> nn.Module:
    """Scale random weights so that the output depends on the input, which it hardly does before."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                # Images differ more than texts do, so they need no gain.
                gain = 1.0 if name.startswith("vis") else 1.5
                scale = 1.0 if "embedding" in name else gain / parameter[0].numel() ** 0.5
                parameter.normal_(std=scale)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    return model.eval()


def settle(model: nn.Module, run: Callable[[], object]) -> None:
    """Give batch normalisation the statistics of a real run; without them signals vanish."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()
        run()
    model.eval()


_VIT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def _save(folder: Path, model, image_processor, tokenizer, processor: type) -> Path:
    awaken(model).save_pretrained(folder)
    processor(image_processor=image_processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def _clip(folder: Path, *, legacy: bool = False) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = clip_tokenizer()
    text = _TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": 2 if legacy else tokenizer.eos_token_id,
        "pad_token_id": 1,
    }
    config = CLIPConfig(text_config=text, vision_config=_VIT, projection_dim=24)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    )
    return _save(folder, CLIPModel(config), image_processor, tokenizer, CLIPProcessor)


def _legacy_clip(folder: Path) -> Path:
    return _clip(folder, legacy=True)


def _siglip(folder: Path) -> Path:
    return _siglip2(folder, sentencepiece_tokenizer(folder))


def _siglip2(folder: Path, tokenizer=None) -> Path:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = tokenizer or gemma_tokenizer()
    text = _TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "projection_size": 32,
    }
    config = SiglipConfig(text_config=text, vision_config=_VIT)
    image_processor = SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
    return _save(folder, SiglipModel(config), image_processor, tokenizer, SiglipProcessor)


def _align(folder: Path) -> Path:
    from transformers import (
        AlignConfig,
        AlignModel,
        AlignProcessor,
        EfficientNetImageProcessor,
    )

    tokenizer = bert_tokenizer()
    config = AlignConfig(
        text_config=_TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 512},
        vision_config={
            "image_size": 32,
            "width_coefficient": 0.25,
            "depth_coefficient": 0.3,
            "hidden_dim": 24,
            "num_hidden_layers": 4,
        },
        projection_dim=80,
    )
    image_processor = EfficientNetImageProcessor(
        size={"height": 40, "width": 40},
        crop_size={"height": 32, "width": 32},
        do_center_crop=True,
        resample=2,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        do_convert_rgb=True,
    )
    model = awaken(AlignModel(config))
    settle(model, lambda: model.get_image_features(torch.randn(64, 3, 32, 32)))
    return _save(folder, model, image_processor, tokenizer, AlignProcessor)


def _chinese_clip(folder: Path) -> Path:
    from transformers import (
        ChineseCLIPConfig,
        ChineseCLIPImageProcessor,
        ChineseCLIPModel,
        ChineseCLIPProcessor,
    )

    tokenizer = bert_tokenizer()
    text = _TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 128}
    config = ChineseCLIPConfig(text_config=text, vision_config=_VIT, projection_dim=24)
    image_processor = ChineseCLIPImageProcessor(
        size={"height": 32, "width": 32}, do_center_crop=False, resample=3
    )
    return _save(folder, ChineseCLIPModel(config), image_processor, tokenizer, ChineseCLIPProcessor)


def _altclip(folder: Path) -> Path:
    from transformers import AltCLIPConfig, AltCLIPModel, AltCLIPProcessor, CLIPImageProcessor

    tokenizer = xlm_roberta_tokenizer()
    text = _TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 82,
        "pad_token_id": 1,
        "project_dim": 24,
    }
    config = AltCLIPConfig(text_config=text, vision_config=_VIT, projection_dim=24)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return _save(folder, AltCLIPModel(config), image_processor, tokenizer, AltCLIPProcessor)


def _metaclip_2(folder: Path) -> Path:
    from transformers import CLIPImageProcessor, CLIPProcessor, MetaClip2Config, MetaClip2Model

    tokenizer = xlm_roberta_tokenizer()
    text = _TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = MetaClip2Config(text_config=text, vision_config=_VIT, projection_dim=24)
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return _save(folder, MetaClip2Model(config), image_processor, tokenizer, CLIPProcessor)


HUGGINGFACE: dict[str, Callable[[Path], Path]] = {
    "clip": _clip,
    "clip-legacy": _legacy_clip,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "align": _align,
    "chinese_clip": _chinese_clip,
    "altclip": _altclip,
    "metaclip_2": _metaclip_2,
}
"""Functions by family; each writes a tiny model into a folder that does not exist yet."""


def nllb_tokenizer():
    from transformers import NllbTokenizer

    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = BpeTrainer(vocab_size=500, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return NllbTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        additional_special_tokens=["eng_Latn", "vie_Latn"],
    )


def _open_clip(
    folder: Path, text: dict[str, Any], preprocess: dict[str, Any], **model: Any
) -> Path:
    """Write a folder as open_clip's `push_to_hf_hub` does."""
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    settings = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, **model}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": settings, "preprocess_cfg": preprocess})
    )
    model_with_weights = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    save_file(awaken(model_with_weights).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def _open_clip_vit(folder: Path) -> Path:
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    return _open_clip(folder, text, {})


def _open_clip_siglip(folder: Path) -> Path:
    tokenizer = gemma_tokenizer()
    tokenizer.save_pretrained(folder)
    text = {
        "context_length": 64,
        "vocab_size": len(tokenizer),
        "hf_tokenizer_name": str(folder),
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    }
    squash = {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}
    return _open_clip(folder, text, squash, custom_text=True, init_logit_bias=-10)


def _open_clip_xlm_roberta(folder: Path) -> Path:
    from transformers import XLMRobertaConfig

    tokenizer = xlm_roberta_tokenizer(512)
    tokenizer.save_pretrained(folder)
    text = _TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 130, "pad_token_id": 1}
    XLMRobertaConfig(**text).save_pretrained(folder)
    names = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    return _open_clip(folder, {**names, "hf_pooler_type": "mean_pooler"}, {})


def _open_clip_nllb(folder: Path) -> Path:
    from transformers import M2M100Config

    tokenizer = nllb_tokenizer()
    tokenizer.save_pretrained(folder)
    M2M100Config(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        scale_embedding=True,
        pad_token_id=1,
    ).save_pretrained(folder)
    names = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    text = {**names, "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}
    return _open_clip(folder, text, {"resize_mode": "squash", "interpolation": "bilinear"})


OPEN_CLIP: dict[str, Callable[[Path], Path]] = {
    "vit": _open_clip_vit,
    "siglip": _open_clip_siglip,
    "xlm-roberta": _open_clip_xlm_roberta,
    "nllb": _open_clip_nllb,
}
"""The same functions for open_clip."""
