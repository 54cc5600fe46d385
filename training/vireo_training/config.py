"""The settings of a training run, each with its default and what it allows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeadConfig(_Settings):
    """The projection of a tower's features to the embedding, which then gets unit length."""

    kind: Literal["residual", "mlp", "linear", "none"] = "residual"
    """"residual": linear, GELU, linear, dropout, added to the first linear's output, layer norm;
    "mlp": linear, batch norm, ReLU, dropout, linear; "linear": one linear layer; "none": the
    features themselves, which then have the embedding's width."""
    hidden: int | None = Field(None, gt=0)
    """Width of the hidden layer of "mlp"; by default the embedding's."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """The dropout inside "residual" and "mlp", and before "linear"."""
    bias: bool = False
    """Whether "linear" has a bias."""
    unit_features: bool = False
    """Give the features unit length before the head."""


class _TowerConfig(_Settings):
    """The settings that both towers share: how the weights they start from are trained."""

    freeze: bool = False
    """Leave the tower as it was loaded, and train its projection head only."""
    unfreeze_after: int | None = Field(None, gt=0)
    """With `freeze`: train the whole tower after so many epochs."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Each layer learns at this times the rate of the layer above it; 1 gives all the same."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory."""
    head: HeadConfig = HeadConfig()

    @model_validator(mode="after")
    def _unfreezes_what_is_frozen(self) -> _TowerConfig:
        if self.unfreeze_after is not None and not self.freeze:
            raise ValueError("unfreeze_after needs freeze=true: nothing is frozen")
        return self


class ImageTowerConfig(_TowerConfig):
    """A timm model, and the preprocessing of its images."""

    name: str = "resnet10t"
    """Any name `timm.list_models()` knows."""
    kwargs: dict[str, Any] = {}
    """Passed to `timm.create_model`, for example {"pad_type": "same"}."""
    weights: str | None = None
    """None trains from scratch; "timm" takes the pretrained weights of timm's hub; else the path of
    a safetensors or PyTorch file, or of a folder that holds `model.safetensors` (with timm's
    `config.json` beside it, images are prepared as that says); or "hf-hub:" and the name of such
    a repository."""
    pool: Literal["model", "grid"] = "model"
    """"model" pools as the timm model does; "grid" keeps the last feature map's cells apart, so
    that left and right, above and below stay different."""
    size: int | None = Field(None, gt=0)
    """Edge of the square that the tower sees. Where this and the settings below are None, they come
    from timm's data config of the model."""
    resize: int | None = Field(None, gt=0)
    """The length of the short edge before the centre is cropped."""
    fit: Literal["window", "shortest", "squash"] = "window"
    """"window" cuts the square in the centre out of the image first; "squash" resizes the whole
    image to a square, whatever its shape; see `ImageSpec.fit`."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


class TextTowerConfig(_TowerConfig):
    """A text encoder and its text path."""

    kind: Literal["transformer", "lstm", "bag-of-words", "huggingface"] = "transformer"
    """"transformer" (pre-norm), "lstm" (bidirectional, the true length of each text) and
    "bag-of-words" (mean of token embeddings) train from scratch; "huggingface" is any encoder of
    transformers."""
    name: str | None = None
    """"huggingface": a model of the hub or a local folder."""
    weights: Literal["pretrained"] | None = None
    """"huggingface": "pretrained" loads those of `name`; None builds `architecture` with random
    weights."""
    architecture: dict[str, Any] = {}
    """"huggingface": its `config.json`, `model_type` included; by default that of `name`."""
    segmenter: str = "auto"
    """vncorenlp, py_vncorenlp, pyvi or none; "auto" takes the first that is available, and the
    bundle records its name."""
    tokenizer: str = "bpe"
    """"bpe" (byte-pair encoding) and "words" (one id a word) are trained on the training captions;
    "pretrained" is the tokenizer of `name`; else the path of a folder that holds one."""
    vocab_size: int = Field(8000, gt=300)
    """Upper limit of the vocabulary of a tokenizer that is trained here."""
    lowercase: bool = True
    """Whether a tokenizer that is trained here ignores case."""
    buckets: tuple[int, ...] = (16, 32, 64)
    width: int = Field(256, gt=0)
    """The width of token embeddings; for "lstm" see `hidden`."""
    hidden: int | None = Field(None, gt=0)
    """"lstm": the state's width in each direction; by default `width`."""
    layers: int = Field(4, gt=0)
    heads: int = Field(4, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    positions: Literal["learned", "sinusoidal"] = "learned"
    """"transformer": the kind of position embedding."""
    shortcut: bool = False
    """"transformer": add the mean of a second embedding of each token to what the blocks give,
    which begins at nothing: little data trains a bag of words, more of it the rest."""
    pool: Literal["cls", "mean", "max", "last"] = "cls"
    """The pooling of token states to the text's features: "cls" takes the first token's, "last" the
    final state of each direction of an "lstm"."""

    @model_validator(mode="after")
    def _whole(self) -> TextTowerConfig:
        if self.kind == "transformer" and self.width % self.heads:
            raise ValueError(f"width ({self.width}) is not a multiple of heads ({self.heads})")
        if self.kind == "lstm" and self.pool == "cls":
            raise ValueError('an lstm has no first token to take; give text.pool "last" or "mean"')
        if self.kind != "lstm" and self.pool == "last":
            raise ValueError('text.pool "last" is the final state of an lstm; give "cls" or "mean"')
        if self.weights is not None and self.kind != "huggingface":
            raise ValueError(
                f'text.weights is set, but a tower of kind "{self.kind}" is trained from scratch; '
                "give text.kind=huggingface"
            )
        if self.kind == "huggingface" and not (self.name or self.architecture):
            raise ValueError("a huggingface tower needs text.name or text.architecture")
        if self.tokenizer == "pretrained" and not self.name:
            raise ValueError('tokenizer "pretrained" is that of text.name, which is not set')
        return self


class SourceConfig(_Settings):
    """A dual encoder of transformers to fine-tune, instead of two towers."""

    name: str
    """hf:OWNER/NAME or hf:FOLDER."""
    architecture: dict[str, Any] = {}
    """Its `config.json`; filled in, with what follows, when it is loaded."""
    masked: bool = False
    pad_ends: bool = False
    """How its texts are masked; see `TextInputs`."""


class ImageAugmentation(_Settings):
    """Random views of training images (torchvision v2), in this order; zeros change nothing."""

    crop: float = Field(0.0, ge=0, le=1)
    """Least share of the image's area that a random resized crop keeps; 0 crops nothing."""
    flip: float = Field(0.0, ge=0, le=1)
    """The share of images that are mirrored; keep 0 where captions say left and right."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Largest angle, in degrees."""
    jitter: float = Field(0.0, ge=0, le=1)
    """Strength of changes in brightness, contrast and saturation."""
    gray: float = Field(0.0, ge=0, le=1)
    """The share of images that lose their colours."""
    erase: float = Field(0.0, ge=0, le=1)
    """The share of images in which a random rectangle is blotted out."""

    @property
    def changes(self) -> bool:
        """Whether any setting changes an image."""
        return any(self.model_dump().values())


class TextAugmentation(_Settings):
    """Captions as people type them, each variant at its rate; the rest stay as they were written.

    Old and new tone placement ("hòa", "hoà") need no rate: the text path makes them one, in small
    letters and after a capital ("Hòa"). In words of capitals ("HÒA", "HOÀ") they stay two.
    """

    bare: float = Field(0.0, ge=0, le=1)
    """Share of captions without diacritics: "con cho"."""
    lower: float = Field(0.0, ge=0, le=1)
    upper: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _shares(self) -> TextAugmentation:
        if self.lower + self.upper > 1:
            raise ValueError("lower and upper are shares of the captions; together at most 1")
        return self


class TrainConfig(_Settings):
    """All settings of a run."""

    source: SourceConfig | None = None
    """A model to fine-tune (`--from`). Of `image` and `text` only the settings of training count
    then (freezing, layer decay, heads); sizes and preprocessing are the model's own."""
    image: ImageTowerConfig = ImageTowerConfig()
    text: TextTowerConfig = TextTowerConfig()
    embedding_dim: int = Field(256, gt=0)
    epochs: int = Field(20, gt=0)
    batch_size: int = Field(64, gt=1)
    """The number of images in one loss, over all devices together."""
    captions_per_picture: int = Field(1, gt=0)
    """Captions drawn for each image of a batch; they are never each other's negatives."""

    loss: Literal["infonce", "siglip", "soft"] = "infonce"
    """"soft" has targets that the batch's own similarities soften, as PhoCLIP's."""
    temperature: float = Field(0.07, gt=0)
    """The temperature at the start; it stays so without `learn_temperature`. Unit embeddings learn
    little at 1.0, the fixed value of some sources: take 0.07 and learn it."""
    learn_temperature: bool = True
    min_temperature: float = Field(0.01, gt=0)
    """The least value of a learnt temperature."""
    siglip_bias: float = -10.0
    """The bias of the sigmoid loss at the start (Zhai et al., 2023, section 3.2)."""
    warm_start: bool = False
    """Begin with the closed form over the features of a frozen image tower (`warm_start.py`)."""
    class_names: str | None = None
    """With `warm_start`: names of the classes of the image tower's classifier, as further
    captions (`class_names`): "imagenet-1k", or a text file with a line for each class."""
    text_pairs: float = Field(0.0, ge=0)
    """Weight of the loss that draws captions of one image together; the captions of `--captions`,
    which have no images, train through it."""

    accumulate: int = Field(1, gt=0)
    """Batches whose gradients are averaged before a step; they are not each other's negatives."""
    grad_cache: int | None = Field(None, gt=0)
    """Images computed at once; the batch is then as large as `batch_size` says in little memory
    (cached gradients, Gao et al., 2021)."""
    lr_image: float = Field(1e-4, ge=0)
    lr_text: float = Field(5e-4, ge=0)
    lr_head: float = Field(1e-3, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    """After the warm-up; "plateau" divides the rates when validation no longer improves."""
    warmup_epochs: float = Field(1.0, ge=0)
    plateau_patience: int = Field(2, ge=0)
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    monitor: Literal["mean_reciprocal_rank", "loss"] = "mean_reciprocal_rank"
    """What chooses the best epoch on validation, ends a run early and finds a plateau: the mean
    reciprocal rank of both directions together, or the loss."""
    patience: int | None = Field(None, gt=0)
    """Epochs without improvement on validation after which training ends."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the weights, which is then validated and written to the bundle.
    It begins lower, so that a short run does not keep its first weights."""

    augment: ImageAugmentation = ImageAugmentation()
    text_augment: TextAugmentation = TextAugmentation()
    feature_views: int = Field(8, gt=0)
    """Augmented views of each image of which a frozen image tower keeps the features."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """bf16 and fp16 train in mixed precision; "auto" takes bf16 where the machine multiplies it in
    hardware."""
    compile: bool = False
    """Compile both towers with `torch.compile`."""
    checkpoint_minutes: float = Field(10.0, gt=0)
    """Minutes between checkpoints inside an epoch; the end of each epoch has one anyway."""
    trackers: tuple[str, ...] = ()
    """Trackers of accelerate, such as "wandb" and "mlflow"; TensorBoard is always on."""
    validation_fraction: float = Field(0.15, ge=0, lt=1)
    test_fraction: float = Field(0.15, ge=0, lt=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _frozen_is_pretrained(self) -> TrainConfig:
        if self.source is not None:
            return self
        if self.image.freeze and self.image.weights is None:
            raise ValueError(
                "freeze keeps the tower as it was loaded, but image.weights is not set; give "
                "image.weights=FILE, or train it from scratch with image.freeze=false, "
                "image.unfreeze_after=null and warm_start=false"
            )
        if self.text.freeze and self.text.weights is None:
            raise ValueError(
                "freeze keeps the tower as it was loaded, but text.weights is not set; give "
                "text.freeze=false to train it from scratch"
            )
        return self

    @model_validator(mode="after")
    def _fine_tuning_trains_something(self) -> TrainConfig:
        if self.source is None:
            return self
        if self.warm_start or self.image.checkpointing or self.text.checkpointing:
            raise ValueError("warm_start and checkpointing do not go with source (--from)")
        towers = (self.image, self.text)
        if all(t.freeze and t.unfreeze_after is None and t.head.kind == "none" for t in towers):
            raise ValueError(
                "both towers are frozen and have no head of their own: nothing would train; "
                "unfreeze one, or give image.head.kind=linear"
            )
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> TrainConfig:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _warm_start_is_linear(self) -> TrainConfig:
        words = self.text.kind == "bag-of-words" or (
            self.text.kind == "transformer" and self.text.shortcut
        )
        image, text = self.image.head, self.text.head
        if self.warm_start and not (
            words
            and self.image.freeze
            and self.image.unfreeze_after is None
            and (image.kind, image.bias, text.kind) == ("linear", True, "none")
        ):
            raise ValueError(
                "warm_start needs image.freeze to the end, image.head linear with bias, text.head "
                "none, and a bag-of-words text tower or a transformer with shortcut; else set "
                "warm_start=false"
            )
        return self
