"""Other projects' embedding servers as contenders of a text query.

They embed; segmenting and the search are ours, and the same for all of them: what differs is the
time of an embedding.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..contenders.ours import K
from ..load.loops import Ask

Embed = Callable[[str], np.ndarray]


class Peer(Protocol):
    """Something that embeds texts; it is pickled, and connected to in the contender's process."""

    def connect(self) -> Embed:
        """Return the function from a segmented text to its embedding FP32 `[D]`."""
        ...


@dataclass(frozen=True)
class OpenAiServer:
    """A server with the API of OpenAI's embeddings, such as infinity's."""

    port: int
    model: str
    path: str = "/embeddings"

    def connect(self) -> Embed:
        """Open a connection, which stays open."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

        def embed(text: str) -> np.ndarray:
            body = json.dumps({"model": self.model, "input": [text]}).encode()
            headers = {"Content-Type": "application/json"}
            try:
                connection.request("POST", self.path, body, headers)
                answer = connection.getresponse()
            except (ConnectionError, http.client.HTTPException):  # it closed an idle connection
                connection.close()
                connection.request("POST", self.path, body, headers)
                answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{self.path} answered {answer.status}: {data[:200]!r}")
            return np.array(json.loads(data)["data"][0]["embedding"], np.float32)

        return embed


@dataclass(frozen=True)
class Process:
    """A program that reads a text a line and answers with an embedding a line, both as JSON."""

    command: tuple[str, ...]

    def connect(self) -> Embed:
        """Start the program; it ends with this process, which closes its input."""
        process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

        def embed(text: str) -> np.ndarray:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.command[-2:]} ended with status {process.wait()}")
            return np.array(json.loads(line), np.float32)

        return embed


@dataclass(frozen=True)
class PeerSearch:
    """A text query with a peer's embedding: segmented, embedded there, searched in our index.

    The peers' embeddings have PhoBERT's width; the first numbers of one are searched for, as many
    as the index has. With random weights the hits mean nothing, and the time is the same.
    """

    index: Path
    repository: Path
    texts: tuple[str, ...]
    peer: Peer

    def open(self) -> Ask:
        """Open the index, connect to the peer, and return the function that searches."""
        from vireo_client.bundle import Bundle
        from vireo_client.index import Index
        from vireo_client.text.pipeline import TextPath

        bundle = Bundle(self.repository)
        path, index = TextPath.from_bundle(bundle), Index(self.index, bundle)
        embed, dim, texts = self.peer.connect(), bundle.config.embedding_dim, self.texts

        def ask(number: int) -> object:
            vector = embed(path.segment(texts[number % len(texts)]))[:dim]
            return index.search_images((vector / np.linalg.norm(vector))[None], K)

        return ask
