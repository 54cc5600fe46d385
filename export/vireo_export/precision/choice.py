"""The precision of each tower's engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vireo_client.errors import ExportError
from vireo_serving.targets import Target

Precision = Literal["fp32", "fp16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_TOWERS = ("text", "image")
_LIMITS = dict.fromkeys(("int8", "int4"), "these engines are made for CPUs")
"""Why a target may not run the engines of a precision."""


@dataclass(frozen=True, slots=True)
class Precisions:
    """The precision of each tower."""

    text: Precision = "fp32"
    image: Precision = "fp32"

    @classmethod
    def parse(cls, words: str) -> Precisions:
        """Parse one precision for both towers ("fp16") or one for each ("text=int8,image=fp32").

        A tower that is not named stays in FP32.

        Raises:
            ExportError: no such precision or tower.
        """
        if "=" not in words:
            words = ",".join(f"{tower}={words}" for tower in _TOWERS)
        chosen: dict[str, Precision] = {}
        for part in words.split(","):
            tower, _, precision = (word.strip() for word in part.partition("="))
            if tower not in _TOWERS or precision not in PRECISIONS or tower in chosen:
                raise ExportError(
                    f"precision {part.strip()!r}: give one of {', '.join(PRECISIONS)}, or a "
                    "precision for each tower such as text=int8,image=fp32"
                )
            chosen[tower] = precision
        return cls(**chosen)

    def check(self, target: Target) -> None:
        """Check that a target runs engines of these precisions.

        Raises:
            ExportError: it does not, or the image tower is to be in INT4.
        """
        if self.image == "int4":
            raise ExportError(
                "int4: image towers have no weights to save so much on; choose text=int4,image=int8"
            )
        for precision in (self.text, self.image):
            if precision not in target.precisions:
                reason = _LIMITS.get(precision, "the target does not run these engines")
                raise ExportError(
                    f"{precision}: {reason}; for target {target.name} choose "
                    f"{' or '.join(target.precisions)}"
                )


ALL_FP32 = Precisions()
