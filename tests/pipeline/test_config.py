import pytest

from pipeline.config import load_config, parse_config, placed_in
from schemas.errors import ReelmillError, UsageError

GOOD = """\
dataset: out/demo
source: {kind: directory, videos: /x}
clips:
  rgb16: {frames: 16, fps: 5, stride_s: 3.2, resize: [128, 171]}
features:
  c3d: {from: clips/rgb16, model: c3d, weights: "random:0"}
heads:
  actions: {kind: lstm, features: [c3d]}
"""


def test_a_good_config() -> None:
    config = parse_config(GOOD, "c.yaml")
    assert config.clips["rgb16"].resize == (128, 171)
    assert config.features["c3d"].source == "clips/rgb16"


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("fps: 5", "fpss: 5", "c.yaml:4: clips.rgb16.fpss: unknown key; did you mean 'fps'?"),
        (
            "kind: lstm",
            "kind: lstn",
            "c.yaml:8: heads.actions: there is no kind 'lstn' here, only 'lstm', 'gru', 'linear'",
        ),
        (
            "frames: 16",
            "frames: -1",
            "c.yaml:4: clips.rgb16.frames: input should be greater than or equal to 1, got -1",
        ),
        (
            "clips/rgb16,",
            "clips/rgb17,",
            "c.yaml:6: features.c3d.from: nothing is named 'clips/rgb17'; this config has clips/rgb16",
        ),
        ("[c3d]", "[c4d]", "c.yaml:8: heads.actions.features: nothing is named 'c4d'; this config has c3d"),
        (", videos: /x", "", "c.yaml:2: source.videos: this key is required"),
        ("kind: directory, ", "", "c.yaml:2: source: this section needs a `kind`"),
        ("frames: 16", "frames: 16, frames: 3", "c.yaml:4: frames: this key stands here twice"),
        ("stride_s: 3.2", "windows: uniform", "c.yaml:4: clips.rgb16.windows: uniform needs num_clips"),
        ("rgb16: {", "rgb 16: {", "c.yaml:4: clips.rgb 16: a name has letters, digits, _ and - only"),
        ("rgb16: {", "rgb.16: {", "c.yaml:4: clips.rgb.16: a name has letters, digits, _ and - only"),
        ("dataset: out/demo", "dataset: [", "c.yaml:"),
        ("dataset: out/demo", "budget: {failed: lots}", "c.yaml:1: budget.failed: write a count of rows or a share"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(right: str, wrong: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_config(GOOD.replace(right, wrong), "c.yaml")
    assert sentence in str(error.value)
    assert all(line.startswith("c.yaml:") for line in str(error.value).splitlines())


@pytest.mark.parametrize(
    ("said", "placed"),
    [
        ("features/c3d: weights: no such", "{path}:6: features.c3d.weights: no such"),
        ("features.c3d.model: no such", "{path}:6: features.c3d.model: no such"),
        ("features/c3d: layer: no such", "{path}:6: features.c3d: layer: no such"),  # it is the model's own
        ("features.c3d: a.pt: no such", "{path}:6: features.c3d: a.pt: no such"),
        ("heads.actions: one label", "{path}:8: heads.actions: one label"),
        ("out/demo: not a folder", "out/demo: not a folder"),
        ("nothing to do", "nothing to do"),
    ],
)
@pytest.mark.parametrize("kind", [ReelmillError, UsageError])
def test_what_goes_wrong_later_has_its_place_too(tmp_path, said: str, placed: str, kind: type[ReelmillError]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    with pytest.raises(kind) as error, placed_in(path):
        raise kind(said)
    assert str(error.value) == placed.format(path=path)


def test_files(tmp_path) -> None:
    with pytest.raises(UsageError, match="no such config file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="can't read this config"):
        load_config(tmp_path / "bytes.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UsageError, match="a config is a mapping"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "good.yaml").write_text(GOOD)
    assert load_config(tmp_path / "good.yaml").dataset == "out/demo"


def test_nothing_is_constructed_from_a_config() -> None:
    with pytest.raises(UsageError, match="not valid YAML"):
        parse_config("dataset: !!python/object/apply:os.system ['true']\n", "c.yaml")


FLOW = GOOD.replace("\nfeatures:", "\nflow:\n  tvl1: {clips: rgb16, bound: 20, encoding: jpeg}\nfeatures:")


def test_a_flow_section() -> None:
    flow = parse_config(FLOW, "c.yaml").flow["tvl1"]
    assert (flow.clips, flow.bound, flow.quality, flow.fields, flow.backend) == ("rgb16", 20, 95, "T", "auto")
    flow = parse_config(FLOW.replace("bound: 20", "params: {lambda: 0.1}, resize: [64, 80]"), "c.yaml").flow["tvl1"]
    assert (flow.bound, flow.params.lambda_, flow.resize) == (20, 0.1, (64, 80))


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        (
            "{clips: rgb16, b",
            "{clips: rgb61, b",
            "c.yaml:6: flow.tvl1.clips: nothing is named 'rgb61'; this config has",
        ),
        ("bound: 20", "bound: 0", "c.yaml:6: flow.tvl1.bound: input should be greater than 0, got 0"),
        ("bound: 20", "bound: -3", "c.yaml:6: flow.tvl1.bound: input should be greater than 0, got -3"),
        ("bound: 20", "bounds: 20", "c.yaml:6: flow.tvl1.bounds: unknown key; did you mean 'bound'?"),
        ("encoding: jpeg", "encoding: mp4", "c.yaml:6: flow.tvl1.encoding: input should be 'jpeg', 'png' or 'npy'"),
        ("bound: 20", "fps: 6", "c.yaml:6: flow.tvl1.fps: clips of 3.2 s hold 19.2 frames at 6 fps, which is no whole"),
        ("bound: 20", "resize: [8, 8]", "c.yaml:6: flow.tvl1: its frames would be 8 x 8 px, and TV-L1 takes 16"),
        ("bound: 20", "short_side: 4", "c.yaml:6: flow.tvl1.short_side: input should be greater than or equal to 16"),
        (
            "bound: 20",
            "backend: cuda, params: {gamma: 0.1}",
            "c.yaml:6: flow.tvl1.params.gamma: the cuda backend has no illumination term; set gamma: 0, or take",
        ),
        ("bound: 20", "params: {tau: 0}", "c.yaml:6: flow.tvl1.params.tau: input should be greater than 0, got 0"),
        ("clips: rgb16, bound: 20, ", "", "c.yaml:6: flow.tvl1.clips: this key is required"),
        ("  tvl1:", "  tvl.1:", "c.yaml:6: flow.tvl.1: a name has letters, digits, _ and - only"),
        ("  tvl1:", "  tvl 1:", "c.yaml:6: flow.tvl 1: a name has letters, digits, _ and - only"),
        ("from: clips/rgb16", "from: flow/other", "c.yaml:8: features.c3d.from: nothing is named 'flow/other'"),
    ],
)
def test_a_mistake_about_flow_is_one_line_with_its_place(right: str, wrong: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_config(FLOW.replace(right, wrong), "c.yaml")
    assert sentence in str(error.value)
    assert len(str(error.value).splitlines()) == 1


HEAD = "{kind: lstm, features: [c3d]}"


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ("{kind: actionformer, features: [c3d], window: 8}", "heads.actions.window: an odd number of steps, got 8"),
        (
            "{kind: lstm, features: [c3d], warmup_epochs: 60}",
            "heads.actions.warmup_epochs: 60 leaves none of the 60 ep",
        ),
        ("{kind: late_fusion, features: [c3d]}", "heads.actions: late_fusion fuses two feature products or more"),
        ("{kind: late_fusion, features: [c3d, c3d]}", "heads.actions.features: 'c3d' stands here twice"),
        ("{kind: lstm, features: c3d}", "heads.actions.features: want a list, [a, b], got 'c3d'"),
        ("{kind: lstm, features: []}", "heads.actions.features: want 1 or more, got []"),
        (
            "{kind: gru, features: [c3d], linear_probe: false}",
            "heads.actions.linear_probe: this section has no such key",
        ),
        ("", "heads.actions: this key has no value"),
        (
            "{kind: talnet, features: [c3d], anchors: [0]}",
            "heads.actions.anchors.0: input should be greater than 0, got",
        ),
        (
            "{kind: talnet, features: [c3d], annotations: {kind: ava, csv: a, labels: b}}",
            "heads.actions.annotations: there is no kind 'ava' here, only 'manifest', 'activitynet', 'thumos14'",
        ),
        (
            "{kind: roi, features: [c3d], annotations: {kind: activitynet, json: a}}",
            "heads.actions.annotations: there is no kind 'activitynet' here, only 'ava', 'tubes'",
        ),
        (
            "{kind: talnet, features: [c3d]}",
            "heads.actions.annotations: a directory source has no segments; name the f",
        ),
        ("{kind: linear, features: [c3d], labels: dense}", "heads.actions.annotations: a directory source has no segm"),
    ],
)
def test_a_mistake_about_heads_is_one_line_with_its_place(head: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_config(GOOD.replace(HEAD, head), "c.yaml")
    assert str(error.value).startswith(f"c.yaml:8: {sentence}")
    assert len(str(error.value).splitlines()) == 1
