"""What a job takes along to a cluster: this code, the config, and the small files that the config names.

A relative path of a config is a file here, and travels. An absolute path or a URI is one that every node sees.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

import jobs
import pipeline
import schemas
from pipeline.backbones.tensor_bundle import bundle_files, is_bundle
from pipeline.storage.places import refuse_secret
from schemas.config import Config
from schemas.errors import UsageError
from schemas.section import Section

CONFIG = "config.yaml"  # the config's name in the package, whatever it is called here
CODE = (jobs, pipeline, schemas)
CODE_FILES = {".py", ".html", ".css"}  # modules, and the page of `report`
LIMIT_BYTES = 95 << 20  # the head takes 100 MiB a request, and every node unpacks what it gets
LARGEST_NAMED = 3
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files are the same package, whenever they were written

# The fields of a config that name files outside of its dataset. A word (`imagenet`, `learned`) is no file that is here.
FILES = {"csv", "list", "labels", "splits", "json_path", "path", "classes", "exclude", "proposals", "weights", "mean"}
PLACES = {"dataset", "videos"}  # all nodes read or write these


def contents(config: Config, path: Path) -> dict[str, Path]:
    """What travels: names in the package, and the files here. Raises UsageError for what can't or needn't."""
    files = {CONFIG: path}
    for package in CODE:
        root = Path(str(package.__file__)).parent
        for file in root.rglob("*"):
            if file.suffix in CODE_FILES:
                files[f"{root.name}/{file.relative_to(root).as_posix()}"] = file
    sizes: dict[str, int] = {}
    for where, text in named_files(config):
        for name, file in _local_files(where, text):
            if files.setdefault(name, file) is not file and not files[name].samefile(file):
                raise UsageError(f"{where}: {text} has a name that a job needs for itself; rename it")
            sizes[text] = sizes.get(text, 0) + file.stat().st_size
    if sum(sizes.values()) > LIMIT_BYTES:
        largest = sorted(sizes, key=lambda text: -sizes[text])[:LARGEST_NAMED]
        named = ", ".join(f"{text}: {sizes[text] / 1e6:.0f} MB" for text in largest)
        raise UsageError(
            f"this job would take {sum(sizes.values()) / 1e6:.0f} MB along ({named}), and a cluster takes "
            f"{LIMIT_BYTES / 1e6:.0f} MB with a job; put them into the bucket or a folder that all nodes see, and name "
            "them there"
        )
    return files


def write_package(files: Mapping[str, Path], target: Path) -> None:
    """A zip of the files: the same bytes for the same names and contents."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(entry, files[name].read_bytes())


def check_places(config: Config) -> None:
    """Raises UsageError for a place that nodes would each have their own of, and for a password in an address."""
    for where, text in _texts(config):
        refuse_secret(text)
        if where.rpartition(".")[2] in PLACES and text and not _is_everywhere(text):
            raise UsageError(
                f"{where}: {text} is a relative path, and every node would look for it in a folder of its own; name a "
                "bucket (s3://…), or an absolute path that all nodes see"
            )


def named_files(config: Config) -> list[tuple[str, str]]:
    """(place in the config, relative path) of every file that a config names and that may be here."""
    fields = ((where, text) for where, text in _texts(config) if where.rpartition(".")[2] not in PLACES)
    return [(where, text) for where, text in fields if not _is_everywhere(text)]


def _is_everywhere(text: str) -> bool:
    return "://" in text or text.startswith(("/", "~"))


def _local_files(where: str, text: str) -> Iterator[tuple[str, Path]]:
    """(name in the package, file) of what a relative path names: a file, a folder, or a TensorFlow checkpoint."""
    path = Path(text)
    if path.is_dir():
        files = tuple(file for file in sorted(path.rglob("*")) if file.is_file())
    elif is_bundle(path):
        files = bundle_files(path)
    else:
        files = (path,) if path.is_file() else ()
    for file in files:
        name = os.path.normpath(file)
        if name.startswith(".."):
            raise UsageError(f"{where}: {text} is outside of this folder; run submit where all its files are below")
        yield name, file


def _texts(section: Section, place: str = "") -> Iterator[tuple[str, str]]:
    """(place, text) of every field of a config that names a place or a file."""
    for name, field in type(section).model_fields.items():
        where = f"{place}.{field.alias or name}".lstrip(".")
        if name in FILES | PLACES and get_origin(field.annotation) is not Literal:
            value = getattr(section, name)
            values = value if isinstance(value, tuple) else (value,)
            yield from ((where, text) for text in values if isinstance(text, str))
        yield from _below(getattr(section, name), where)


def _below(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Section):
        yield from _texts(value, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _below(item, f"{where}.{key}")
