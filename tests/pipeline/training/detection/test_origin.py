"""What maps were made of, from cards: of clips, and of flow on clips."""

from typing import Any

import pytest

from pipeline import receipts
from pipeline.store import Store
from pipeline.training.detection.origin import WHOLE, Origin, read_origin
from schemas.config import Clips, Features, Flow
from schemas.receipt import Card


def origin(
    store: Store, clips: dict[str, Any], *, flow: dict[str, Any] | None = None, window: dict[str, int] | None = None
) -> Origin:
    """Of features on clips, or on flow of them."""
    source = "flow/tvl1" if flow is not None else "clips/rgb"
    sections: dict[str, Any] = {
        "clips/rgb": Clips.model_validate({"frames": 16, "fps": 8, **clips}),
        "features/maps": Features.model_validate(
            {"from": source, "model": "small_rgb", "weights": "random:0", "dense": True, "window": window}
        ),
    }
    if flow is not None:
        sections["flow/tvl1"] = Flow.model_validate({"clips": "rgb", **flow})
    for path, section in sections.items():
        details = {"sampling": {"num_fields": 32, "fps": 16.0}} if path == source and flow is not None else {}
        settings = section.model_dump(mode="json", by_alias=True)
        card = Card(
            product=path, fingerprint="f", code_version=1, settings=settings, upstream={}, details=details, versions={}
        )
        receipts.write_card(store, card)
    return read_origin(store, "features/maps")


@pytest.fixture
def store(world: Any) -> Store:
    found: Store = world.store
    return found


def test_whole_frames_of_clips(store: Store) -> None:
    assert origin(store, {"short_side": 64}) == Origin(8.0, WHOLE, starts_with_video=True, ends_with_video=True)


@pytest.mark.parametrize(
    ("clips", "window", "starts", "ends"),
    [
        ({"tail": "drop"}, None, True, False),
        ({"stride_s": 2.0}, None, True, True),
        ({"stride_s": 2.5}, None, True, False),  # the video may end between two windows
        ({}, {"frames": 8, "stride": 5}, True, False),  # the last of those in a clip may end before it
        ({"windows": "uniform", "num_clips": 3}, None, False, False),
    ],
)
def test_where_windows_lie_in_the_video(
    store: Store, clips: dict[str, Any], window: dict[str, int] | None, starts: bool, ends: bool
) -> None:
    found = origin(store, clips, window=window)
    assert (found.starts_with_video, found.ends_with_video) == (starts, ends)


def test_flow_has_its_own_rate_and_its_own_crop(store: Store) -> None:
    clips = {"resize": (60, 80), "crop": (48, 64)}
    plain = origin(store, clips, flow={"fps": 16})
    assert plain.fps == 16
    assert plain.frame == pytest.approx((0.1, 0.1, 0.9, 0.9))
    assert origin(store, clips, flow={"fps": 16, "resize": (48, 64)}).frame == WHOLE
