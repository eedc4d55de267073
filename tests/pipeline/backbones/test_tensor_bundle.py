"""Checkpoints that TensorFlow wrote (tests/golden/tensor_bundle), I3D's names and shapes, and files that are damaged.

DeepMind's own lists of variables are in ../shared/data/i3d.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundle_writer import entry, header, nested, table, varint, write_bundle

from pipeline.backbones.crc32c import crc32c, masked
from pipeline.backbones.tensor_bundle import bundle_files, is_bundle, other_tensorflow, read_bundle, read_index
from schemas.errors import ReelmillError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "tensor_bundle"
I3D = ROOT / ".." / "shared" / "data" / "i3d"

Arrays = dict[str, np.ndarray]


def assert_same(found: Arrays, wanted: Arrays) -> None:
    assert list(found) == sorted(wanted, key=str.encode)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].dtype.isnative, name
        np.testing.assert_array_equal(found[name], array, strict=True, err_msg=name)


def golden(name: str) -> Arrays:
    with np.load(GOLDEN / f"{name}.npz") as values:
        return dict(values)


def copied(name: str, folder: Path) -> Path:
    for path in GOLDEN.glob(f"{name}.*"):
        shutil.copy(path, folder)
    return folder / name


# ---------------------------------------------------------------- as TensorFlow writes


@pytest.mark.parametrize("name", ["saver", "two_shards", "objects"])
def test_what_tensorflow_wrote_is_read_as_tensorflow_reads_it(name: str) -> None:
    assert_same(read_bundle(GOLDEN / name), golden(name))


def test_the_golden_has_what_it_is_for() -> None:
    values = golden("saver")
    assert {array.dtype.name for array in values.values()} >= {
        "float16",
        "float32",
        "float64",
        "int32",
        "int64",
        "bool",
    }
    assert values["global_step"].shape == ()
    assert values["global_step"] == 1 << 40
    assert values["empty"].shape == (0, 4)
    assert values["RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w"].shape == (3, 3, 3, 3, 8)


def test_names_and_shapes_need_no_data_file(tmp_path: Path) -> None:
    prefix = copied("saver", tmp_path)
    Path(f"{prefix}.data-00000-of-00001").unlink()
    wanted = {name: (array.shape, array.dtype) for name, array in golden("saver").items()}
    assert read_index(prefix) == wanted


def test_an_index_of_several_blocks(tmp_path: Path) -> None:
    prefix = copied("many", tmp_path)
    Path(f"{prefix}.index").write_bytes(gzip.decompress(Path(f"{prefix}.index.gz").read_bytes()))
    assert_same(read_bundle(prefix), {f"{number:03d}/" + "x" * 1500: np.zeros((), np.float32) for number in range(400)})


def test_strings_are_named_but_not_read() -> None:
    graph = "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert read_index(GOLDEN / "objects")[graph] == ((), np.dtype(object))
    assert graph not in read_bundle(GOLDEN / "objects")


def test_arrays_are_their_own(tmp_path: Path) -> None:
    prefix = copied("saver", tmp_path)
    found = read_bundle(prefix)
    for path in bundle_files(prefix):
        path.unlink()
    for array in found.values():
        array[...] = 1  # writable, and backed by no file


# ---------------------------------------------------------------- ways to name a bundle

FILES = ["two_shards.data-00000-of-00002", "two_shards.data-00001-of-00002", "two_shards.index"]


@pytest.mark.parametrize("name", ["two_shards", *FILES])
def test_any_of_its_files_names_a_bundle(name: str) -> None:
    assert is_bundle(GOLDEN / name)
    assert bundle_files(GOLDEN / name) == tuple(GOLDEN / file for file in FILES)
    assert_same(read_bundle(GOLDEN / name), golden("two_shards"))


@pytest.mark.parametrize("name", ["saver.npz", "version1", "checkpoint", "nothing", "", "x" * 255])
def test_other_paths_name_none(name: str) -> None:
    assert not is_bundle(GOLDEN / name)
    assert not is_bundle(GOLDEN / name / "below_a_file")


def test_a_prefix_that_ends_like_an_index(tmp_path: Path) -> None:
    write_bundle(tmp_path / "best.index", {"w": np.ones(3, np.float32)})
    for name in ("best.index", "best.index.index", "best.index.data-00000-of-00001"):
        assert_same(read_bundle(tmp_path / name), {"w": np.ones(3, np.float32)})


# ---------------------------------------------------------------- I3D


@pytest.mark.parametrize("modality", ["rgb", "flow"])
@pytest.mark.skipif(not I3D.is_dir(), reason="../shared/data/i3d, DeepMind's lists of variables, is not here")
def test_all_variables_of_i3d_at_their_true_shapes(modality: str, tmp_path: Path) -> None:
    variables = json.loads((I3D / f"{modality}_imagenet.index.json").read_text())
    rng = np.random.default_rng(3)
    wanted = {name: rng.standard_normal(known["shape"], dtype=np.float32) for name, known in variables.items()}
    write_bundle(tmp_path / "model.ckpt", wanted)
    assert len(wanted) == 230
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    assert data.stat().st_size == max(known["offset"] + known["size"] for known in variables.values())
    assert_same(read_bundle(data), wanted)


# ---------------------------------------------------------------- the writer's choices


@pytest.mark.parametrize("options", [{"compression": "snappy"}, {"num_shards": 3}, {"byte_order": "big"}])
def test_other_ways_to_write_a_bundle(options: dict, tmp_path: Path) -> None:
    wanted = {name: array for name, array in golden("saver").items() if name != "types/bfloat16"}
    write_bundle(tmp_path / "model", wanted, **options)
    assert_same(read_bundle(tmp_path / "model"), wanted)


# ---------------------------------------------------------------- what is no bundle


def refusal(path: Path) -> str:
    with pytest.raises(ReelmillError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_version_1_checkpoint() -> None:
    assert "checkpoint of version 1; load it in TensorFlow and save it" in refusal(GOLDEN / "version1")


def test_the_text_file_checkpoint_says_which_to_give() -> None:
    assert f"names the newest checkpoint; give {GOLDEN / 'saver'}.index" in refusal(GOLDEN / "checkpoint")


def test_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    assert "variables/variables.index" in refusal(tmp_path / "saved_model.pb")
    assert "give its .index file" in refusal(tmp_path)
    write_bundle(tmp_path / "variables" / "variables", {"w": np.ones(3, np.float32)})
    assert f"a folder; give {tmp_path / 'variables' / 'variables.index'}" in refusal(tmp_path)


def test_the_graph_beside_a_bundle(tmp_path: Path) -> None:
    graph = Path(f"{copied('saver', tmp_path)}.meta")
    graph.write_bytes(b"\x0a\x01")
    assert f"the graph without the weights; give {tmp_path / 'saver.index'}" in refusal(graph)


def test_other_files_and_none(tmp_path: Path) -> None:
    assert "give its .index file" in refusal(GOLDEN / "saver.npz")
    assert f"{tmp_path / 'a'}: no such file, and no a.index" in refusal(tmp_path / "a")
    assert f"{tmp_path / 'a.index'}: no such file" in refusal(tmp_path / "a.index")
    assert f"{tmp_path / 'a.index'}: no such file" in refusal(tmp_path / "a.data-00000-of-00001")
    (tmp_path / "b.index").mkdir()
    assert "not a TensorFlow checkpoint" in refusal(tmp_path / "b.index")
    (tmp_path / "c.index").touch()
    assert "truncated or damaged" in refusal(tmp_path / "c.index")


def test_a_folder_where_a_data_file_should_be(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m", {"w": np.ones(3, np.float32)})
    data = tmp_path / "m.data-00000-of-00001"
    data.unlink()
    data.mkdir()
    assert refusal(tmp_path / "m") == f"{data}: can't read the weights (Is a directory); check the path"


def test_what_is_nothing_of_tensorflows() -> None:
    for path in (GOLDEN / "saver.npz", GOLDEN / "nothing", GOLDEN / "many.data-00000-of-00001"):
        assert other_tensorflow(path) is None


def test_variables_in_parts() -> None:
    assert "parts.index: w is saved in parts" in refusal(GOLDEN / "parts")


# ---------------------------------------------------------------- damage


def test_a_missing_data_file(tmp_path: Path) -> None:
    prefix = copied("two_shards", tmp_path)
    data = Path(f"{prefix}.data-00001-of-00002")
    data.unlink()
    wanted = f"{data}: missing; two_shards.index has 2 data files beside it, get this one too"
    assert refusal(prefix) == wanted
    with pytest.raises(ReelmillError, match=re.escape(wanted)):
        bundle_files(prefix)


def test_the_data_of_another_checkpoint(tmp_path: Path) -> None:
    prefix = copied("saver", tmp_path)
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(bytes(data.stat().st_size))
    assert "is wrong; the file is damaged or of another checkpoint, get it again" in refusal(prefix)


def test_truncated_anywhere(tmp_path: Path) -> None:
    prefix = copied("saver", tmp_path)
    for path in bundle_files(prefix):
        whole = path.read_bytes()
        for size in range(0, len(whole), 1 if path.suffix == ".index" else 41):
            path.write_bytes(whole[:size])
            message = refusal(prefix)
            assert message.startswith(f"{path}: ")
            assert "truncated" in message
            assert message.endswith("get it again")
        path.write_bytes(whole)


def test_any_bit_flipped_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Nothing comes of a bit in the index's unused part (the metaindex and the padding of the footer)."""
    prefix = copied("saver", tmp_path)
    rng = np.random.default_rng(1)
    wanted = golden("saver")
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    for path, times in ((index, 400), (data, 100)):
        whole = path.read_bytes()
        noticed = 0
        for _ in range(times):
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                assert_same(read_bundle(prefix), wanted)
            except ReelmillError as error:
                assert str(path) in str(error)  # noqa: PT017
                noticed += 1
        assert noticed > times * 0.8
        assert noticed == times or path == index
        path.write_bytes(whole)


def test_any_message_is_read_or_named_damaged(tmp_path: Path) -> None:
    """Checksums of the index are made good after each change, so that the messages are met as they are."""
    rng = np.random.default_rng(2)
    prefix = tmp_path / "m"
    data = bytes(24)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    messages = [header(1), entry(1, (2, 3), size=24, crc=masked(crc32c(data)))]
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        changed = [bytearray(message) for message in messages]
        target = changed[rng.integers(2)]
        for _ in range(rng.integers(1, 4)):
            target[rng.integers(len(target))] = rng.integers(256)
        Path(f"{prefix}.index").write_bytes(table([(b"", bytes(changed[0])), (b"w", bytes(changed[1]))]))
        try:
            found = read_bundle(prefix)
            outcomes[True] += 1
            assert sum(array.nbytes for array in found.values()) <= 2 * len(data)
        except ReelmillError as error:
            assert "\n" not in str(error)  # noqa: PT017
            outcomes[False] += 1
    assert outcomes[True] > 0
    assert outcomes[False] > 250


HUGE = (1 << 62) - 1
W = entry(1, (2,), size=8)
LIES = {
    "it has no header": [(b"w", W)],
    "lies in data file 7 of 1": [(b"", header(1)), (b"w", entry(1, (2,), size=8, shard=7))],
    "the shape of w is impossible": [(b"", header(1)), (b"w", entry(1, (HUGE, HUGE), size=8))],
    "the shape of w is": [(b"", header(1)), (b"w", entry(1, (0, HUGE), size=0))],
    "the shape": [(b"", header(1)), (b"w", entry(1, (1,) * 65, size=4))],
    r"w has 8 bytes, which are not its shape's \(3,\)": [(b"", header(1)), (b"w", entry(1, (3,), size=8))],
    "truncated, w ends at byte 4398046511104": [(b"", header(1)), (b"w", entry(4, (1 << 42,), size=1 << 42))],
    "truncated, w ends": [(b"", header(1)), (b"w", entry(1, (2,), size=8, offset=HUGE))],
    "w overlaps another variable": [(b"", header(1)), (b"v", W), (b"w", W)],
    "a name is not UTF-8": [(b"", header(1)), (b"\xff", W)],
    "parts of variables without the variables": [(b"", header(1)), (b"\0w", W)],
    "w is of TensorFlow's type 11, which reelmill doesn't read": [(b"", header(1)), (b"w", entry(11, (8,), size=8))],
    "needs a reader of TensorFlow's bundle version 2": [(b"", header(1, min_consumer=2)), (b"w", W)],
    "a message is shorter": [(b"", header(1)), (b"w", varint(2 << 3 | 2) + varint(HUGE))],
    "a field of unknown kind 3": [(b"", header(1)), (b"w", b"\x0b")],
    "a number stands where a message should": [(b"", header(1)), (b"w", b"\x10\x01")],
    "a message stands where a number should": [(b"", header(1)), (b"w", nested(1, b"x"))],
    "a number in it has no end": [(b"", header(1)), (b"w", b"\x08" + b"\xff" * 11)],
}


@pytest.mark.parametrize("words", LIES)
def test_what_an_index_claims_is_not_believed(words: str, tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(table(LIES[words]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(16))
    with pytest.raises(ReelmillError, match=words):
        read_bundle(tmp_path / "m")


def test_a_claim_of_countless_data_files_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(table([(b"", header(HUGE)), (b"w", W)]))
    with pytest.raises(ReelmillError, match=f"m.data-00000-of-{HUGE}: missing"):
        bundle_files(tmp_path / "m")
    assert f"m.data-00000-of-{HUGE}: missing" in refusal(tmp_path / "m")
