import json
import subprocess
import sys

import pytest

SMALL = ["--classes", "2", "--videos", "1", "--size", "64x48", "--fps", "8", "--seconds", "1", "--workers", "1"]


def test_the_closing_lines_say_what_was_made_and_what_is_next(reelmill, tmp_path):
    command = [sys.executable, "-m", "jobs.synth", str(tmp_path / "set"), *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "made 2 trimmed videos of 2 classes, 2 s in all" in done.stdout
    assert f"csv: {tmp_path}/set/trimmed/kinetics.csv, videos: {tmp_path}/set/trimmed/videos" in done.stdout
    again = reelmill("synth", tmp_path / "set", *SMALL)
    assert "2 of them stood from before" in again.stdout


def test_json_is_one_object(reelmill, tmp_path):
    done = reelmill("synth", tmp_path / "set", *SMALL, "--untrimmed", 1, "--untrimmed-seconds", 3, "--json")
    report = json.loads(done.stdout)
    assert report["num_trimmed"] == 2
    assert report["num_untrimmed"] == 1
    assert (tmp_path / "set" / report["activitynet_json"]).is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "64"], 'WIDTHxHEIGHT in pixels, such as 176x144, got "64"'),
        (["--split", "1,2"], 'three shares such as 0.6,0.2,0.2, got "1,2"'),
        (["--classes", "5000"], "got 5000"),
        (["--workers", "0"], "--workers must be 1 or more, got 0"),
        (["--backgrounds", "/nowhere"], "/nowhere: no such folder of backgrounds"),
    ],
)
def test_bad_usage_is_one_sentence_and_status_2(reelmill, tmp_path, words, said):
    done = reelmill("synth", tmp_path / "set", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "set").exists()
