import pytest
import torch
from vireo_training.loop.schedule import Schedule
from vireo_training.presets import load_config


def _schedule(*settings, epoch_steps=10):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters, (1.0, 0.1), strict=True)]
    optimiser = torch.optim.AdamW(groups)
    config = load_config("scenes", ["epochs=4", "warmup_epochs=1", *settings])
    return optimiser, Schedule(optimiser, config, epoch_steps)


def test_cosine_warms_up_and_ends_at_nothing():
    optimiser, schedule = _schedule("schedule=cosine")
    rates = []
    for _ in range(41):
        first, second = (group["lr"] for group in optimiser.param_groups)
        assert second == pytest.approx(first / 10)
        rates.append(first)
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[25] == pytest.approx(0.5)
    assert rates[40] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_plateau_waits_and_reduces():
    settings = ["schedule=plateau", "plateau_patience=1", "plateau_factor=0.5", "warmup_epochs=0"]
    optimiser, schedule = _schedule(*settings)
    seen = []
    for better in (True, False, False, False, True, False, False):
        schedule.epoch_ended(better)
        seen.append(optimiser.param_groups[0]["lr"])
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_plateau_does_not_judge_the_warm_up():
    optimiser, schedule = _schedule(
        "schedule=plateau", "plateau_patience=0", "warmup_epochs=3", epoch_steps=2
    )
    rates = []
    for _ in range(4):
        for _ in range(2):
            schedule.step()
        schedule.epoch_ended(False)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([3 / 6, 5 / 6, 0.5, 0.25])


@pytest.mark.parametrize("kind", ["cosine", "plateau", "constant"])
def test_a_restored_schedule_goes_on_where_it_was(kind):
    optimiser, schedule = _schedule(f"schedule={kind}")
    for better in (True, False, False, False):
        schedule.step()
        schedule.epoch_ended(better)
    again_optimiser, again = _schedule(f"schedule={kind}")
    again_optimiser.load_state_dict(optimiser.state_dict())  # gives it other groups
    again.load_state_dict(schedule.state_dict())
    for _ in range(20):
        assert [g["lr"] for g in again_optimiser.param_groups] == [
            g["lr"] for g in optimiser.param_groups
        ]
        for each in (schedule, again):
            each.step()
