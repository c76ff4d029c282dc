import io

import numpy as np
import pytest
from PIL import Image

from robustvit.data.formats.decode import decode
from robustvit.errors import DataUnreadable


def saved(image, form="PNG", **options):
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


@pytest.mark.parametrize(("mode", "form"), [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")])
def test_images_of_any_mode_become_rgb_as_pillow_makes_them(mode, form):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise).convert(mode), form)
    found = decode(content, "x")
    assert found.shape == (9, 7, 3)
    assert found.dtype == np.uint8
    assert (found == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).all()


def test_the_orientation_in_exif_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif), "x").shape == (4, 8, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_truncated_image_is_refused_by_name(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = saved(noise, form)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(DataUnreadable, match=r"^birds/7: ."):
            decode(content[: int(len(content) * share)], "birds/7")


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"no image at all", "not an image")])
def test_bytes_that_are_no_image_are_refused_with_the_reason(content, reason):
    with pytest.raises(DataUnreadable, match=f"birds/7: .*{reason}"):
        decode(content, "birds/7")


def test_an_image_of_more_than_eight_bits_a_channel_is_refused():
    with pytest.raises(DataUnreadable, match="more than 8 bits"):
        decode(saved(Image.fromarray(np.zeros((4, 4), np.uint16))), "x")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [10, 12])
def test_an_image_too_large_to_be_safe_is_refused(monkeypatch, limit):
    content = saved(Image.new("RGB", (4, 5)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit - 2)
    with pytest.raises(DataUnreadable, match="x: "):
        decode(content, "x")
