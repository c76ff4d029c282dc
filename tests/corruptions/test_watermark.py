"""ImageNet-W's watermark: what it covers, and how it is mixed in. Figures are of imagenet-w 1.0.0, whose levels ours equalled."""

from importlib import resources

import pytest
import torch

from robustvit.corruptions.watermark import watermark


def covered(height: int, width: int) -> torch.Tensor:
    """The text's alpha, 0 … 255: white over black is as bright as it is opaque."""
    return watermark(torch.zeros(1, 3, height, width), None)[0, 0].mul(255).round()


def test_the_text_is_white_at_half_opacity_and_leaves_the_rest_alone(noise_images) -> None:
    images = noise_images(2, 224, 224)
    alpha, marked = covered(224, 224), watermark(images, None)
    assert float(alpha.max()) == 128
    assert torch.equal(marked[..., alpha == 0], images[..., alpha == 0])
    expected = (alpha * 255 + images.mul(255).round() * (255 - alpha)) / 255
    assert float((marked * 255 - expected).abs().max()) <= 0.5 + 1e-3
    assert torch.equal(watermark(torch.ones(1, 3, 224, 224), None), torch.ones(1, 3, 224, 224))


@pytest.mark.parametrize(("side", "share", "left", "right", "top", "bottom"), [
    (224, 0.0539, 3, 216, 100, 134), (384, 0.0395, 5, 373, 173, 230), (256, 0.0501, 4, 247, 115, 153),
])  # fmt: skip
def test_the_text_has_the_size_and_place_of_the_reference(side, share, left, right, top, bottom) -> None:
    seen = covered(side, side) > 0
    rows, columns = (torch.nonzero(seen.any(dim=axis)).flatten() for axis in (1, 0))
    assert float(seen.float().mean()) == pytest.approx(share, rel=0.03)
    assert [int(rows[0]), int(rows[-1])] == pytest.approx([top, bottom], abs=1)
    assert [int(columns[0]), int(columns[-1])] == pytest.approx([left, right], abs=1)


def test_two_glyphs_are_written_three_times() -> None:
    alpha = covered(224, 224)
    assert torch.equal(alpha[:, 2:74], alpha[:, 74:146])
    assert torch.equal(alpha[:, 2:74], alpha[:, 146:218])
    assert not torch.equal(alpha[:, 2:38], alpha[:, 38:74])


def test_the_font_ships_with_its_licence() -> None:
    folder = resources.files("robustvit.corruptions.kernels") / "watermark"
    assert "SIL OPEN FONT LICENSE" in (folder / "OFL.txt").read_text(encoding="utf-8")
    assert b"Source Han" not in (folder / "glyphs.otf").read_bytes()  # a reserved name
