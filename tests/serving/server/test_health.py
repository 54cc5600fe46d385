"""The requests that probe engines, and what their answers mean."""

import pytest
from vireo_client.captions import CaptionedImage
from vireo_client.errors import ServerError, ServerOverloaded
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.reload.publication import Publication, is_ensemble
from vireo_serving.reload.slots import Layout
from vireo_serving.repository.warm_up import add_warm_up
from vireo_serving.server.health import Health, probe_of
from vireo_serving.targets import TARGETS


def _configs(target, bundle, folder, instances=1):
    options = ServingOptions()
    configs = TARGETS[target]().configs(bundle.config, options, version=1)
    for model in configs:
        (folder / model / "1").mkdir(parents=True)
    records: list[CaptionedImage] = []
    add_warm_up(configs, folder, bundle, records, options, target=TARGETS[target](), version=1)
    for config in configs.values():
        for group in config.instance_group:
            group.count = instances
    return {model: config for model, config in configs.items() if not is_ensemble(config)}


@pytest.mark.parametrize("target", TARGETS)
def test_every_engine_has_a_probe_that_fits_its_inputs(bundle, tmp_path, target):
    for model, config in _configs(target, bundle, tmp_path).items():
        probe = probe_of(config, tmp_path / model)
        assert probe is not None, model
        assert probe.output in {output.name for output in config.output}
        assert set(probe.inputs) <= {tensor.name for tensor in config.input}
        for tensor in probe.inputs.values():
            assert tensor.shape[0] == 1
            assert tensor.data


def test_python_models_run_no_tower_for_a_probe_and_each_process_gets_one(bundle, tmp_path):
    configs = _configs("cpu", bundle, tmp_path, instances=3)
    probes = {model: probe_of(config, tmp_path / model) for model, config in configs.items()}
    assert {model: (probe.output, probe.copies) for model, probe in probes.items()} == {
        "text_encoder": ("input_ids", 3),
        "image_encoder": ("pixels", 3),
    }
    # Length 1 and an "a"; length 0.
    assert probes["text_encoder"].inputs["text"].data == b"\1\0\0\0a"
    assert probes["image_encoder"].inputs["image"].data == b"\0\0\0\0"


class _Triton:
    """Answers probes as it is asked to: a stand-in for `Admin`, which no test can make hang."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.finished = 0

    def infer(self, model, inputs, output, *, timeout):
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer

    def finished_requests(self, model):
        return self.finished


def _health(bundle, tmp_path, triton):
    configs = {"text_encoder": _configs("cpu", bundle, tmp_path)["text_encoder"]}
    publication = Publication(tmp_path, bundle.bundle_id, configs, {"text_encoder": 1})
    return Health(triton, Layout(publication, tmp_path, "1"), limit=1, every=0)


def _looks(health, count):
    """Return what `count` answers lead to."""
    findings = []
    for _ in range(count):
        if not any(engine.answers for engine in health._engines.values()):
            health.look()
        for engine in health._engines.values():
            for answer in engine.answers:
                answer.exception()
        findings.append(health.look())
    return findings


def test_a_process_that_died_is_dead_at_once(bundle, tmp_path):
    error = ServerError("Stub process 'text_encoder@1_0_0' is not healthy.")
    health = _health(bundle, tmp_path, _Triton(None, error))
    assert _looks(health, 2) == [None, f"text_encoder@1: {error}"]


def test_another_failure_must_come_twice_in_a_row(bundle, tmp_path):
    failure = ServerError("out of memory")
    health = _health(bundle, tmp_path, _Triton(failure, None, failure, failure))
    assert _looks(health, 4) == [None, None, None, "text_encoder@1: out of memory"]


def test_a_full_queue_is_a_sign_of_life(bundle, tmp_path):
    full = ServerOverloaded("Exceeds maximum queue size")
    health = _health(bundle, tmp_path, _Triton(full, full, full))
    assert _looks(health, 3) == [None, None, None]


def test_an_engine_that_answers_others_is_busy_and_not_dead(bundle, tmp_path):
    late = ServerError("Triton does not answer: timed out")
    triton = _Triton(late, late)
    health = _health(bundle, tmp_path, triton)
    health.look()
    triton.finished = 1  # since the probe was sent
    assert _looks(health, 1) == [None]
    assert _looks(health, 1) == [f"text_encoder@1: {late}"]


def test_a_fault_of_the_probe_itself_is_no_death(bundle, tmp_path):
    health = _health(bundle, tmp_path, _Triton(ValueError("a mistake here")))
    with pytest.raises(ValueError, match="a mistake here"):
        _looks(health, 1)
