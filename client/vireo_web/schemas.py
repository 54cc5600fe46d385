"""The JSON of the API: what is asked and what is answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Value = str | int | float | bool | None

JobState = Literal["queued", "running", "done", "cancelled", "failed"]
Condition = Literal["ready", "indexing", "no-index", "no-model", "damaged", "unavailable"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchRequest(_Request):
    """A search: by text, by image, or by both."""

    q: str | None = Field(None, description="A Vietnamese query.", examples=["hai con chó"])
    k: int = Field(24, ge=1, description="The number of matches, at most.")
    filter: str | None = Field(
        None,
        description="Which images may be found.",
        examples=['folder ^= "2024/" and width > 1000'],
    )
    min_relevance: float | None = Field(
        None, ge=0, le=1, description="Leave out matches of less relevance."
    )
    hybrid: bool = Field(False, description="Look for the words of `q` too.")
    image_id: int | None = Field(
        None, ge=0, lt=2**63, description="An indexed image that the matches shall be like."
    )
    text_weight: float = Field(
        0.5, ge=0, le=1, description="The share of the text where an image is given too."
    )


class SearchByJson(SearchRequest):
    """A search with the image in the request."""

    image: str | None = Field(
        None, description="An image's file in base64.", json_schema_extra={"format": "byte"}
    )


class SearchMatch(BaseModel):
    """One hit."""

    rank: int = Field(description="From 1.")
    id: int = Field(description="The image's number in the index.")
    path: str
    name: str
    score: float = Field(description="Cosine similarity, from -1 to 1.")
    relevance: float | None = Field(description="From 0 to 1; null where it is not known.")
    caption: str | None = Field(description="The first caption of the image.")
    metadata: dict[str, Value]
    width: int | None
    height: int | None
    image: str = Field(description="The address of the image.")
    thumbnail: str = Field(description="The address of its thumbnail.")


class Milliseconds(BaseModel):
    """How long the parts of a search took."""

    embed: float
    search: float
    total: float


class SearchAnswer(BaseModel):
    """The hits of a search, best first."""

    query: dict[str, Any]
    matches: list[SearchMatch]
    generation: int = Field(description="The number of saves of the index until now.")
    milliseconds: Milliseconds


class Sentence(BaseModel):
    """A caption of the index that describes an image."""

    text: str
    score: float


class DescribeAnswer(BaseModel):
    """Captions that describe an image, best first."""

    sentences: list[Sentence]


class ImageAnswer(BaseModel):
    """What the index and the file system know of an image."""

    id: int
    path: str
    name: str
    captions: list[str]
    metadata: dict[str, Value]
    width: int | None
    height: int | None
    bytes: int = Field(description="The size of the file when it was indexed.")
    sha256: str
    present: bool = Field(description="Whether the file is still there.")
    changed: bool = Field(description="Whether the file was changed since it was indexed.")
    image: str
    thumbnail: str


class FoldersEntry(BaseModel):
    """A folder that may be indexed."""

    name: str
    path: str
    images: int | None = Field(description="Images directly in it; null where it was not counted.")


class FoldersAnswer(BaseModel):
    """The folders within one folder."""

    path: str
    parent: str | None
    folders: list[FoldersEntry]


class IndexRequest(_Request):
    """A folder to index."""

    folder: str = Field(min_length=1, max_length=4096, examples=["/home/lan/Pictures"])


class SkippedFile(BaseModel):
    """A file that was not indexed."""

    path: str
    reason: str


class JobAnswer(BaseModel):
    """The work of indexing one folder."""

    id: str
    folder: str
    state: JobState
    done: int
    total: int | None = Field(description="Null until the folder has been listed.")
    rate: float = Field(description="Images a second.")
    seconds_left: float | None
    added: int
    removed: int
    unchanged: int
    skipped: list[SkippedFile] = Field(description="The first ones.")
    skipped_count: int
    error: str | None


class OneJob(BaseModel):
    """A job."""

    job: JobAnswer


class DownloadRequest(_Request):
    """Images to download together."""

    ids: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1, examples=[[1, 2]])


class EmbedTextRequest(_Request):
    """Texts to embed."""

    texts: list[str] = Field(min_length=1, examples=[["hai con chó", "một con mèo"]])


class EmbedAnswer(BaseModel):
    """Unit vectors, in the order of what was given."""

    embeddings: list[list[float]]
    dim: int


class ModelAnswer(BaseModel):
    """The model that embeds."""

    name: str
    id: str
    dim: int


class IndexAnswer(BaseModel):
    """The index."""

    model_config = ConfigDict(populate_by_name=True)

    folder: str
    images: int
    captions: int
    generation: int
    kind: str
    recall: float | None = Field(None, alias="recall@10")


class ColumnAnswer(BaseModel):
    """A column to filter by."""

    name: str
    type: str
    values: list[str] | None = Field(description="The most frequent texts; null for numbers.")


class FolderCount(BaseModel):
    """A folder of the index, or a camera, and the number of its images."""

    name: str
    images: int


class Root(BaseModel):
    """A folder below which folders may be chosen."""

    path: str
    label: str


class InfoAnswer(BaseModel):
    """What this server serves."""

    version: str
    model: ModelAnswer | None
    index: IndexAnswer | None
    engine: Literal["in process", "triton"]
    state: Condition
    detail: str | None = Field(description="Why it is not ready.")
    columns: list[ColumnAnswer]
    cameras: list[FolderCount]
    folders: list[FolderCount]
    date_range: list[str] | None = Field(description="The first and the last date of a photo.")
    roots: list[Root]
    limits: dict[str, float]
    jobs: list[JobAnswer]
    key_required: bool
