import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.synth.encode import write_mp4


def pictures(num: int = 30) -> list[np.ndarray]:
    down, across = np.indices((48, 64))
    return [
        np.stack([np.full((48, 64), 40 + 5 * i), 2 * down + 60, 2 * across + 60], axis=2).astype(np.uint8)
        for i in range(num)
    ]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(25, 2)])
def test_frames_come_back_in_order_at_their_times_and_in_their_colours(tmp_path, rate):
    path = tmp_path / "a.mp4"
    write_mp4(path, pictures(), rate=rate, crf=10, gop=12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == rate
        frames = list(container.decode(stream))
    assert len(frames) == 30
    for index, (frame, wanted) in enumerate(zip(frames, pictures(), strict=True)):
        assert frame.pts * frame.time_base == pytest.approx(index / rate, abs=1e-4)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - wanted).mean() < 4
    assert [bool(frame.key_frame) for frame in frames].count(True) >= 3  # at most 12 frames apart


def test_bytes_are_equal_whatever_fresh_memory_holds(tmp_path):
    program = """
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from pipeline.synth.encode import write_mp4
frames = np.load(sys.argv[1])
write_mp4(Path(sys.argv[2]), frames, rate=Fraction(25), crf=20, gop=50)
"""
    np.save(tmp_path / "frames.npy", np.stack(pictures()))
    found = set()
    for fill in ("0", "1", "170"):  # glibc fills fresh memory with this byte; elsewhere the runs are just repeats
        path = tmp_path / f"{fill}.mp4"
        command = [sys.executable, "-c", program, str(tmp_path / "frames.npy"), str(path)]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": fill})
        found.add(path.read_bytes())
    assert len(found) == 1
