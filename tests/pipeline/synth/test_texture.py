import numpy as np
import pytest

from pipeline.synth.texture import LUMA, actor_texture, background_texture, noise, random_shape


def test_noise_has_the_wavelength_asked_for():
    field = noise(np.random.default_rng(0), height_px=256, width_px=256, wavelength_px=16)
    power = np.abs(np.fft.rfft2(field)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    mean = (power * frequency).sum() / power.sum()
    assert 1 / mean == pytest.approx(16, rel=0.2)
    assert power[frequency > 0.25].sum() < 1e-3 * power.sum()  # nothing that a bilinear warp would alias


def test_an_actor_stands_out_and_a_background_does_not():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        actor = actor_texture(rng, side_px=96, wavelength_px=24) @ LUMA
        background = background_texture(rng, height_px=96, width_px=128) @ LUMA
        assert actor.std() > 40
        assert background.std() < 20


def test_a_mask_is_the_inside_of_its_outline():
    for seed in range(12):
        shape = random_shape(np.random.default_rng(seed))
        mask = shape.mask(side_px=84, radius_px=40)
        assert shape.radii.max() == pytest.approx(1)
        points = shape.outline() * 40
        area = 0.5 * abs((points[:, 0] * np.roll(points[:, 1], 1) - points[:, 1] * np.roll(points[:, 0], 1)).sum())
        assert mask.sum() == pytest.approx(area, rel=0.02)
        assert (
            mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
        )  # no cut at the patch's side
