"""Runs functions of test modules in a process of its own whose Triton kernels are interpreted on the CPU.

Triton decides when it is imported whether kernels are interpreted, so this can't be done in the tests' own process.
Started as a script, it answers pickled calls (file, function name, arguments) on stdin with (ok, value) on stdout.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Interpreter:
    """The other process: `call` runs a function that a test module defines at its top level, and returns its value."""

    def __init__(self) -> None:
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        )

    def call(self, function: Callable, *args: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((function.__code__.co_filename, function.__name__, args), self.process.stdin)
        self.process.stdin.flush()
        ok, value = pickle.load(self.process.stdout)
        assert ok, value
        return value

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """float32 a·b + c with one rounding: the product is exact in float64, and the sum is rounded to odd there."""
    product, c = np.float64(a) * np.float64(b), np.float64(c)
    total = np.atleast_1d(product + c)
    back = total - product
    error = (product - (total - back)) + (c - back)
    bits = total.view(np.int64)
    towards = np.where((error > 0) == (total > 0), 1, -1)
    return (bits + np.where((error != 0) & (bits & 1 == 0), towards, 0)).view(np.float64).astype(np.float32)


def _prepare() -> None:
    """Makes the interpreter fuse multiply-adds, which it rounds twice, and patch the language once, not every call."""
    from triton.runtime import interpreter

    def create_fma(self, x, y, z):  # type: ignore[no-untyped-def]
        return interpreter.TensorHandle(fused(*np.broadcast_arrays(x.data, y.data, z.data)), z.dtype.scalar)

    patch, patched = interpreter._patch_lang, set()

    def patch_once(function):  # type: ignore[no-untyped-def]
        languages = interpreter.tl, interpreter.tl.core
        key = frozenset(id(value) for value in function.__globals__.values() if any(value is m for m in languages))
        if key not in patched:
            patch(function)
            patched.add(key)
        return interpreter._LangPatchScope()

    interpreter.InterpreterBuilder.create_fma = create_fma
    interpreter._patch_lang = patch_once


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a test prints must not mix with the answers
    _prepare()
    while True:
        try:
            file, name, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            spec = importlib.util.spec_from_file_location(Path(file).stem, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            answer = True, getattr(module, name)(*args)
        except Exception:
            answer = False, traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
