"""Writes this folder's checkpoints with TensorFlow itself (tensorflow-cpu 2.21.0), and their values as NumPy's.

    python -m venv tf && tf/bin/pip install tensorflow-cpu==2.21.0
    tf/bin/python tests/golden/tensor_bundle/make_tensor_bundles.py

saver        tf.train.Saver, as DeepMind's I3D was saved: all types of numbers, a scalar, an empty variable
two_shards   SaveV2 twice and MergeV2Checkpoints, as a distributed job saves
many         an index of three blocks, gzipped: long names compress well
objects      tf.train.Checkpoint of TensorFlow 2: a string variable beside the numbers
parts        a variable saved in two slices
version1     tf.train.Saver's old format, one file
checkpoint   the text file that the Savers leave beside it
*.npz        what TensorFlow's own reader gives back, name by name; bfloat16 as float32
"""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import tensorflow as tf

HERE = Path(__file__).resolve().parent
V1 = tf.compat.v1
SHAPES = {
    "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta": (8,),
    "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/moving_mean": (1, 1, 1, 1, 8),
    "RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/moving_variance": (1, 1, 1, 1, 8),
    "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w": (3, 3, 3, 3, 8),
    "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/b": (5,),
    "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/w": (1, 1, 1, 8, 5),
}
TYPES = ("float64", "float16", "bfloat16", "int32", "int64", "uint8", "int8", "int16", "uint16", "complex64", "bool")


def tensors(rng: np.random.Generator) -> dict[str, tf.Tensor]:
    found = {name: tf.constant(rng.standard_normal(shape), tf.float32) for name, shape in SHAPES.items()}
    for name in TYPES:
        found[f"types/{name}"] = tf.cast(tf.constant(rng.standard_normal((2, 3)) * 100), name)
    found["global_step"] = tf.constant(1 << 40, tf.int64)
    found["empty"] = tf.zeros((0, 4))
    return found


def save(prefix: str, named: dict[str, tf.Tensor], slices: list[str] | None = None) -> None:
    names = [name.removesuffix("#2") for name in named]
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=names, shape_and_slices=slices or [""] * len(names), tensors=list(named.values())
    )


def with_saver(named: dict[str, tf.Tensor], prefix: Path, version: int) -> None:
    arrays = {name: (tensor.numpy(), tensor.dtype) for name, tensor in named.items()}
    with tf.Graph().as_default(), V1.Session() as session:
        variables = [V1.Variable(array, name=name, dtype=dtype) for name, (array, dtype) in arrays.items()]
        session.run(V1.global_variables_initializer())
        saver = V1.train.Saver(variables, write_version=version)
        saver.save(session, str(prefix), write_meta_graph=False)


def keep_values(prefix: str) -> None:
    reader = tf.train.load_checkpoint(prefix)
    values = {}
    for name, dtype in sorted(reader.get_variable_to_dtype_map().items()):
        if dtype != tf.string:
            value = reader.get_tensor(name)
            values[name] = value.astype(np.float32) if dtype == tf.bfloat16 else value
    np.savez_compressed(f"{prefix}.npz", **values)


def main() -> None:
    rng = np.random.default_rng(20)
    os.chdir(HERE)
    floats = {name: value for name, value in tensors(rng).items() if name in SHAPES}
    with_saver(floats, Path("version1"), V1.train.SaverDef.V1)
    with_saver(tensors(rng), Path("saver"), V1.train.SaverDef.V2)
    keep_values("saver")

    named = list(tensors(rng).items())
    with tempfile.TemporaryDirectory() as folder:
        save(f"{folder}/a", dict(named[::2]))
        save(f"{folder}/b", dict(named[1::2]))
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=[f"{folder}/a", f"{folder}/b"], destination_prefix="two_shards"
        )
    keep_values("two_shards")

    save("many", {f"{number:03d}/" + "x" * 1500: tf.constant(0.0) for number in range(400)})
    Path("many.index.gz").write_bytes(gzip.compress(Path("many.index").read_bytes(), mtime=0))
    Path("many.index").unlink()

    model = tf.train.Checkpoint(weight=tf.Variable(rng.standard_normal((2, 3)), dtype=tf.float32))
    model.write("objects")
    keep_values("objects")

    half = tf.constant(rng.standard_normal((2, 3)), tf.float32)
    save("parts", {"w": half, "w#2": half, "whole": half}, slices=["4 3 0,2:-", "4 3 2,2:-", ""])


if __name__ == "__main__":
    main()
