"""Writes frame_times.json: when ffmpeg, and not this project, shows each frame of the real videos in ../shared/data.

    python tests/golden/make_frame_times.py [../shared/data/videos]

Per video: the time base and, for every frame in order of display, its pts in that unit as ffmpeg's showinfo filter
prints it with -copyts, and how long the last frame stays. The program is the one of imageio-ffmpeg.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = (
    "activitynet/v_GGSY1Qvo990.mp4",
    "hmdb51/RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "hmdb51/TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "kinetics/R6llTwEh07w.mp4",
    "kinetics/SOX5yA1l24A.mp4",
    "long/vtest.avi",
    "long/women_long_jump.mp4",
    "odd/av1_video.mkv",
    "odd/h265_video.mp4",
    "odd/opus_audio_flipping_a_pancake.mkv",
    "odd/rotated_90.mov",
    "odd/test_non_zero_start.mp4",
    "odd/unordered.mov",
    "odd/vfr_header_lies_tree.avi",
    "odd/yuv444p_cockatoo.mp4",
    "ucf101/v_ApplyEyeMakeup_g01_c01.avi",
    "ucf101/v_BaseballPitch_g01_c01.avi",
    "ucf101/v_SoccerJuggling_g23_c01.avi",
)


def frame_times(path: Path) -> dict[str, object]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-copyts", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-vf", "showinfo", "-f", "null", "-"]
    text = subprocess.run(command, capture_output=True, check=True).stderr.decode(errors="replace")
    base = re.search(r"config in time_base: (\d+)/(\d+)", text)
    frames = re.findall(r"n: *\d+ pts: *(-?\d+) pts_time:\S+ +duration: *(\d+)", text)
    assert base, f"{path}: ffmpeg printed no time base"
    return {
        "time_base": [int(base[1]), int(base[2])],
        "last_duration": int(frames[-1][1]),
        "pts": [int(pts) for pts, _ in frames],
    }


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".." / "shared/data/videos"
    videos = {name: frame_times(folder / name) for name in VIDEOS}
    version = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], capture_output=True, check=True).stdout
    made_by = json.dumps(version.decode().splitlines()[0].split(" Copyright")[0])
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(times)}" for name, times in videos.items())
    text = f'{{"made_by": {made_by}, "videos": {{\n{lines}\n}}}}\n'
    Path(__file__).with_name("frame_times.json").write_text(text)


if __name__ == "__main__":
    main()
