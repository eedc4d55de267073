"""The learning rate, epoch by epoch."""

import pytest

from pipeline.training.schedule import learning_rate
from schemas.heads import LSTMHead


def rates(**settings: object) -> list[float]:
    head = LSTMHead.model_validate({"kind": "lstm", "features": ["c3d"], "epochs": 10, "lr": 0.2, **settings})
    return [learning_rate(head, epoch) for epoch in range(10)]


def test_it_is_half_a_cosine() -> None:
    found = rates()
    assert found[0] == 0.2
    assert found[5] == pytest.approx(0.1)
    assert 0 < found[9] < 0.01
    assert found == sorted(found, reverse=True)


def test_steps_of_a_tenth() -> None:
    assert rates(schedule="step") == pytest.approx([0.2] * 6 + [0.02] * 3 + [0.002])


def test_warm_up_comes_first_and_the_schedule_has_the_rest() -> None:
    assert rates(schedule="constant", warmup_epochs=3) == pytest.approx([0.05, 0.1, 0.15] + [0.2] * 7)
    found = rates(warmup_epochs=4)
    assert found[4] == 0.2
    assert found[7] == pytest.approx(0.1)


def test_all_epochs_warm_up_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves none of the 10 epochs to train in"):
        rates(warmup_epochs=10)
