"""Compare the vireo that exported a model with the one that is installed."""

from __future__ import annotations

PARAMETER = "vireo_version"
"""Key under `parameters` in a model's configuration."""


def mismatch(exported_with: str | None, installed: str) -> str | None:
    """Return a warning if a model was exported with another vireo than the installed one.

    Args:
        exported_with: the version in the model's configuration; None before 0.2.0.
        installed: `vireo_client.__version__` where the model runs.

    Returns:
        One sentence with both versions and what to do; None if they are the same.
    """
    if exported_with == installed:
        return None
    if not exported_with:
        return (
            f"exported by a vireo older than 0.2.0, which recorded no version, but vireo "
            f"{installed} is installed; export the bundle again"
        )
    return (
        f"exported by vireo {exported_with}, but vireo {installed} is installed; export the bundle "
        f"again, or install vireo {exported_with}"
    )
