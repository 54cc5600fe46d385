"""Run the commands of this package."""

from vireo_client.cli import run

from .commands import app

run(app)
