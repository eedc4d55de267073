"""`reelmill weights`: what a weights file is, and any public checkpoint in reelmill's own format."""

from __future__ import annotations

import filecmp
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from jobs.entry import interruptible, run_app
from pipeline import backbones
from pipeline.backbones.checkpoint_file import read, some
from pipeline.backbones.identity import Option, file_sha256, local_file
from pipeline.backbones.inspection import inspect
from pipeline.backbones.recognise import recognise
from schemas.errors import UsageError

SUFFIX = ".safetensors"
SHOWN_KEYS = 8  # of those that nothing takes; --json names all

main = typer.Typer(
    help="Say what a weights file is, and write any public checkpoint in reelmill's own format.", no_args_is_help=True
)
File = Annotated[str, typer.Argument(help="a torch or safetensors file, or a TensorFlow checkpoint (prefix or .index)")]


@main.command("inspect")
@interruptible
def inspect_file(
    file: File,
    as_json: Annotated[bool, typer.Option("--json", help="for machines; names every key that fills nothing")] = False,
) -> None:
    """Say which model takes a weights file, and what is in it; exit status 1 where none does."""
    facts = {**inspect(local_file(file)), "file": file}
    print(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(facts)))


@main.command("convert")
@interruptible
def convert(
    file: File,
    out: Annotated[str, typer.Argument(help=f"a new file, {SUFFIX}")],
    model: Annotated[str | None, typer.Option(help="where several models take the file")] = None,
    option: Annotated[list[str] | None, typer.Option(help="of the model, KEY=VALUE, to be kept in the file")] = None,
) -> None:
    """Write a checkpoint as float32 safetensors that `weights:` takes, with the model's name and options in it."""
    if "://" in out:
        raise UsageError(f"{out}: this command writes a local file; convert it there, and copy it")
    target = Path(out)
    if target.suffix != SUFFIX:
        raise UsageError(f"{out}: the converted file is {SUFFIX}; give it that name")
    if not target.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {target.parent}; make it first")
    source = local_file(file).absolute()  # a file, where build also knows words such as random:0
    name = model or _only_model(source)
    net = backbones.build(name, weights=str(source), options=dict(_option(text) for text in option or ()))
    is_new = _write(net, target)
    classes = "no classifier" if net.spec.num_classes is None else f"{net.spec.num_classes} classes"
    print(f"{out}: {'written' if is_new else 'already holds exactly this'}")
    print(f"  {name} weights ({net.weights.format}), {classes}, {_options_text(net.options)}")
    print(f"  sha256 {file_sha256(target)}")
    for note in net.weights.notes:
        print(f"  note: {note}")
    if net.weights.unused:
        print(f"  left out, as {name} has no place for it: {some(net.weights.unused, SHOWN_KEYS)}")


def _write(net: Any, target: Path) -> bool:
    """Whether the file is new. Raises UsageError where another one has its name."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        backbones.save(net, partial)
        if not target.exists():
            os.replace(partial, target)
            return True
        if target.is_file() and filecmp.cmp(partial, target, shallow=False):
            return False
        raise UsageError(f"{target}: exists and holds something else; give another name, or remove it first")
    finally:
        partial.unlink(missing_ok=True)


def _only_model(path: Path) -> str:
    found = recognise(read(path))
    if len(found) > 1:
        names = " or ".join(one.model.name for one in found)
        raise UsageError(f"{path}: several models take these weights; say --model {names}")
    return found[0].model.name


def _option(text: str) -> tuple[str, Option]:
    key, equals, value = text.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = None
    if not key or not equals or not isinstance(parsed, (str, int, float, bool)):
        raise UsageError(f"--option {text}: write KEY=VALUE, such as pool5=symmetric")
    return key, parsed


# ---------------------------------------------------------------- what is printed


def _lines(facts: dict[str, Any]) -> list[str]:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in facts["dtypes"].items())
    lines = [
        f"{facts['file']}: {facts['container']}, {facts['arrays']} arrays ({dtypes})",
        f"  sha256      {facts['sha256']}",
    ]
    for model in facts["models"]:
        lines += _model_lines(model)
    return lines


def _model_lines(model: dict[str, Any]) -> list[str]:
    has_logits = model["num_classes"] is not None
    classes = f"{model['num_classes']} ({model['classifier']})" if has_logits else "no classifier: features only"
    layers = ", ".join(f"{layer} {dim}" for layer, dim in model["layers"].items())
    rows = {
        "model": f"{model['model']} ({model['modality']}), in the format of {model['format']}",
        "classes": classes,
        "parameters": f"{model['parameters']:,}",
        "options": _options_text(model["options"]),
        "recipe": model["recipe"],
        "layers": f"{layers}; the default is {model['default_layer']}",
        "maps": ", ".join(model["map_layers"]),
        "note": model["note"],
        "unused": f"{_keys(len(model['unused']))}: {some(model['unused'], SHOWN_KEYS)}" if model["unused"] else "",
        "ignored": ", ".join(f"{_keys(count)} like {pattern}" for pattern, count in model["ignored"].items()),
    }
    return [f"  {name:<11} {text}" for name, text in rows.items() if text]


def _keys(count: int) -> str:
    return f"{count} key{'s' if count > 1 else ''}"


def _options_text(options: dict[str, Option]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in options.items()) or "no options"


if __name__ == "__main__":
    run_app(main)
