import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from vireo_training.loop.ema import moving_average


def _averages(decay, values):
    model = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(model, multi_avg_fn=moving_average(decay))
    seen = []
    for value in values:
        torch.nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        seen.append(average.module.weight.item())
    return seen


def test_a_short_run_does_not_keep_its_first_weights():
    *_, last = _averages(0.999, [1.0] + [0.0] * 100)
    assert last < 0.01


def test_late_in_a_run_it_is_the_moving_average_of_the_setting():
    values = torch.linspace(0, 1, 200).tolist()
    seen = _averages(0.9, values)
    for step in range(100, 200):
        assert seen[step] == pytest.approx(0.9 * seen[step - 1] + 0.1 * values[step], abs=1e-6)
