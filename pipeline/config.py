"""Reads a config file. Every mistake is one line with its place in the file, found before any work is done."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.secrets import NO_SECRETS, has_secret, redacted
from schemas.config import Config
from schemas.errors import ReelmillError, UsageError
from schemas.section import Section

Place = tuple[str | int, ...]


def load_config(path: Path) -> Config:
    """Read and validate a YAML config. Raises UsageError with one line per mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't read this config ({error})") from None
    return parse_config(text, str(path))


@contextmanager
def placed_in(path: Path) -> Iterator[None]:
    """Puts the file and the line before what goes wrong with a section that the error names, later than on reading."""
    try:
        yield
    except ReelmillError as error:
        raise type(error)(_placed(str(error), path)) from None


def _placed(message: str, path: Path) -> str:
    """The same sentence where it names no place in the file."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    head, _, what = message.partition(": ")
    section = head.replace("/", ".")  # features/c3d, as a product is called
    key, _, of_key = what.partition(": ")
    for name, sentence in ((f"{section}.{key}", of_key), (section, what)):
        if line := _line_of(name, root):
            return f"{path}:{line}: {name}: {sentence}"
    return message


def _line_of(name: str, node: yaml.Node | None) -> int | None:
    """Where a place stands, its keys joined by dots; a key may hold dots itself."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name == key.value:
            return int(key.start_mark.line) + 1
        if name.startswith(f"{key.value}.") and (line := _line_of(name[len(key.value) + 1 :], value)):
            return line
    return None


def parse_config(text: str, name: str) -> Config:
    """Validate a config given as YAML text; `name` stands in the messages."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (ValueError, RecursionError) as error:  # a date that is none, an anchor inside itself
        raise UsageError(f"{name}: not valid YAML: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{name}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict) or root is None:
        raise UsageError(f"{name}: a config is a mapping that starts with `dataset:`, got {type(values).__name__}")
    _refuse_repeated_keys(root, name)
    _refuse_secrets(root, name)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(problem, root, name) for problem in error.errors() if not _follows(problem)]
        raise UsageError("\n".join(dict.fromkeys(lines))) from None


def _follows(problem: Any) -> bool:
    """Whether a list is only said to be too short because some of its items are wrong, which is said, too."""
    return problem["type"] == "too_short" and len(problem["input"]) >= problem["ctx"]["min_length"]


def _sentence(problem: Any, root: yaml.Node, name: str) -> str:
    """One pydantic problem as `file:line: place: what is wrong`."""
    location: Place = problem["loc"]
    if not location and problem["type"] == "value_error":  # a mistake between sections names its place itself
        location = _place_named(str(problem["ctx"]["error"]).partition(": ")[0], root)
    place, line, node = _locate(location, root)
    kind, value = problem["type"], problem.get("input")
    message = str(problem["ctx"]["error"]) if kind == "value_error" else ""
    message = message.removeprefix(".".join(map(str, location)) + ": ")
    if (key := message.partition(": ")[0]) in (lines := _lines_of_keys(node)):
        place, line, message = (*place, key), lines[key], message[len(key) + 2 :]
    where = f"{name}:{line}: {'.'.join(str(part) for part in place)}".rstrip(": ")
    if kind == "union_tag_invalid":
        return f"{where}: there is no kind {problem['ctx']['tag']!r} here, only {problem['ctx']['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"{where}: this section needs a `kind`"
    if kind == "extra_forbidden":
        if str(place[-1]) in (known := _known_keys()):
            return f"{where}: this section has no such key"
        close = difflib.get_close_matches(str(place[-1]), known, n=1)
        return f"{where}: unknown key" + (f"; did you mean {close[0]!r}?" if close else "")
    if kind == "missing":
        return f"{where}: this key is required"
    if kind == "value_error":
        return f"{where}: {message}"
    if value is None:
        return f"{where}: this key has no value"
    if kind == "too_short":
        return f"{where}: want {problem['ctx']['min_length']} or more, got {value!r}"
    if kind == "tuple_type":
        return f"{where}: want a list, [a, b], got {value!r}"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {value!r}"


def _place_named(text: str, node: yaml.Node) -> Place:
    """The place that `text` names, keys joined by dots; a key of the file may hold dots itself."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if text == key.value:
            return (text,)
        if text.startswith(f"{key.value}.") and (rest := _place_named(text[len(key.value) + 1 :], value)):
            return (key.value, *rest)
    return tuple(text.split("."))


def _locate(location: Place, root: yaml.Node) -> tuple[Place, int, yaml.Node]:
    """The part of a pydantic location that is really in the file, its line there, and what stands there."""
    node, line, place = root, root.start_mark.line + 1, []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    place.append(part)
                    break
            else:
                if last and part != _kind_of(node):  # a missing key; a kind is pydantic's name for a union's member
                    place.append(part)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            place.append(part)
    return tuple(place), line, node


def _kind_of(section: yaml.MappingNode) -> str | None:
    return next((value.value for key, value in section.value if key.value == "kind"), None)


def _lines_of_keys(node: yaml.Node) -> dict[str, int]:
    entries = node.value if isinstance(node, yaml.MappingNode) else ()
    return {key.value: int(key.start_mark.line) + 1 for key, _ in entries}


def _known_keys() -> list[str]:
    """Every key that any section knows, for "did you mean"."""
    keys: set[str] = set()
    stack: list[type[Section]] = [Section]
    while stack:
        model = stack.pop()
        stack.extend(model.__subclasses__())
        keys.update(field.alias or key for key, field in model.model_fields.items())
    return sorted(keys)


def _refuse_repeated_keys(node: yaml.Node | None, name: str) -> None:
    """YAML lets a later key silently replace an earlier one; here that is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise UsageError(f"{name}:{key.start_mark.line + 1}: {key.value}: this key stands here twice")
            seen.add(key.value)
            _refuse_repeated_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, name)


def _refuse_secrets(node: yaml.Node, name: str) -> None:
    """A config is copied to the dataset, and its values stand in messages and cards."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _refuse_secrets(key, name)
            _refuse_secrets(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_secrets(item, name)
    elif has_secret(str(node.value)):
        raise UsageError(f"{name}:{node.start_mark.line + 1}: {redacted(str(node.value))}: {NO_SECRETS}")
