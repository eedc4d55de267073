"""From a head's settings to its task. Each room is imported when a head asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from pipeline.training.checkpoint import Weights
from pipeline.training.task import Source, Task
from schemas.heads import Head, HeadBase, task_of
from schemas.heads import Task as TaskName

_HEAD: TypeAdapter[Any] = TypeAdapter(Head)

TASKS: dict[TaskName, tuple[str, str]] = {
    "classification": ("pipeline.training.classification.task", "ClassificationTask"),
    "temporal": ("pipeline.training.temporal.task", "TemporalTask"),
    "detection": ("pipeline.training.detection.task", "DetectionTask"),
    "clips": ("pipeline.training.clips.task", "ClipTask"),
}


def settings_of(values: Mapping[str, Any]) -> HeadBase:
    """The config section of a head from its plain JSON values."""
    settings: HeadBase = _HEAD.validate_python(dict(values))
    return settings


def task_class(settings: HeadBase) -> Any:
    """The class of the task that a head is for."""
    module, name = TASKS[task_of(settings)]
    return getattr(import_module(module), name)


def open_task(source: Source, settings: HeadBase, constants: Weights | None = None) -> Task[Any]:
    """Read what a head is trained on. `constants` are a checkpoint's (`Task.constants`), where one is evaluated.

    Raises ReelmillError, in one sentence, wherever training makes no sense.
    """
    task: Task[Any] = task_class(settings)(source, settings, constants)
    return task
