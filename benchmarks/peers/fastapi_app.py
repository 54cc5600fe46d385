"""What a team writes first: a FastAPI handler around PyTorch, cosines and a sort.

python -m benchmarks.peers.fastapi_app BUNDLE VECTORS PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Body, FastAPI

from ..contenders.pytorch import open_search


def make_app(bundle: Path, vectors: Path) -> FastAPI:
    """Return the application: `POST /search {"text": ...}` answers with ten rows."""
    app = FastAPI()
    search = open_search(bundle, vectors)

    @app.post("/search")
    def answer(text: str = Body(embed=True)) -> dict[str, Any]:
        return {"rows": search(text).tolist()}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    app = make_app(Path(sys.argv[1]), Path(sys.argv[2]))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="warning")
