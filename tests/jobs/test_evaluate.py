"""`reelmill evaluate` says what metrics.json says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.evaluate import main
from jobs.prepare import plan_config
from jobs.train import train_heads
from pipeline.config import load_config
from pipeline.store import Store
from schemas.errors import ReelmillError, UsageError


def test_it_gives_the_numbers_of_training(head_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_config(head_config)
    store = Store(loaded.dataset)
    trained = train_heads(plan_config(loaded, store), store)
    command = [sys.executable, "-m", "jobs.evaluate", str(head_config), "--split", "val", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for result in json.loads(done.stdout):
        models = trained[result["product"]]["models"]
        assert result["split"] == "val"
        assert result["models"] == {name: model["splits"]["val"] for name, model in models.items()}
    capsys.readouterr()
    main(head_config, head=["actions"])
    shown = capsys.readouterr().out
    top1 = trained["heads/actions"]["top1"]
    for text in ("heads/actions", "lstm", "linear", "test", f"{100 * top1:.1f}", "class by class", "class 2"):
        assert text in shown
    assert "heads/probe" not in shown


def test_mistakes_are_one_sentence(head_config: Path) -> None:
    with pytest.raises(ReelmillError) as error:
        main(head_config)
    assert str(error.value) == "heads/actions is not trained yet; run `reelmill train` first"
    with pytest.raises(UsageError) as usage:
        main(head_config, split="dev")
    assert str(usage.value) == "--split dev: give train, val, test"
