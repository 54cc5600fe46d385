import pytest
from vireo_training.loop.step import Step


@pytest.fixture
def rates(monkeypatch):
    """Collects the rates of all parameter groups at each update of any run."""
    seen, plain = [], Step.update

    def update(step):
        seen.append([group["lr"] for group in step._optimiser.param_groups])
        plain(step)

    monkeypatch.setattr(Step, "update", update)
    return seen
