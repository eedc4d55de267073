"""Ray Data teaches Arrow a type of column whose values are pickles: whoever then reads a Parquet file with such a
column runs the code in it. No table of a dataset has one, and a dataset may come from elsewhere: so Arrow unlearns it.
"""

from __future__ import annotations

import contextlib

import pyarrow as pa
import ray.data  # noqa: F401  (which registers it, once a process, and must not do so later)

PICKLED = "ray.data.arrow_pickled_object"

with contextlib.suppress(pa.ArrowKeyError):  # a Ray that does not know it
    pa.unregister_extension_type(PICKLED)
