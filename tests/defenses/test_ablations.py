import timm
import torch
from exact import classifier
from torch import Tensor, nn
from torch.nn import functional

from robustvit.defenses.ablations import ablations
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.spec.ablations import Ablations

BATCH = Batch(torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3, tuple("abcdef"))
DRAWS = Draws.for_step(0, 0, BATCH.ids)


class _ImageRecorder(nn.Module):
    """Keeps the images of its forward pass."""

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return images.mean(dim=(2, 3))


def test_every_image_has_one_visible_band_of_its_own() -> None:
    model = _ImageRecorder()
    ablations(width=5).loss(model, BATCH, DRAWS)
    bands = (model.images != 0).any(dim=1).any(dim=1)
    assert bands.sum(dim=1).tolist() == [5] * 6
    assert len({tuple(band.tolist()) for band in bands}) > 2
    assert torch.equal(
        model.images[bands[:, None, None, :].expand_as(model.images)], BATCH.images[bands[:, None, None, :].expand_as(model.images)]
    )


def test_an_image_gets_the_same_band_in_any_batch() -> None:
    alone, together = _ImageRecorder(), _ImageRecorder()
    ablations(width=5).loss(together, BATCH, DRAWS)
    ablations(width=5).loss(alone, BATCH[torch.tensor([4])], DRAWS[torch.tensor([4])])
    assert torch.equal(alone.images[0], together.images[4])


def test_a_plain_transformer_is_trained_on_tokens_with_a_visible_pixel() -> None:
    module = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=3, num_classes=3)
    model = classifier(module, side=16)
    counts: list[int] = []
    module.blocks[0].register_forward_hook(lambda block, given, made: counts.append(given[0].shape[1]))
    dropped = ablations(width=4, kind="blocks").loss(model, BATCH, DRAWS)
    assert set(counts) <= {1 + n for n in (1, 2, 4)}
    assert not torch.isclose(dropped, ablations(width=4, kind="blocks", unseen="kept").loss(model, BATCH, DRAWS))


def test_its_loss_is_the_mean_cross_entropy_of_the_ablated_images() -> None:
    model = _ImageRecorder()
    loss = ablations(width=16).loss(model, BATCH, DRAWS)  # bands as wide as the image hide nothing
    assert Ablations("columns", 16, 1, (16, 16)).window([3]).columns.all()
    torch.testing.assert_close(loss, functional.cross_entropy(BATCH.images.mean(dim=(2, 3)), BATCH.labels))


def test_it_sets_only_a_loss() -> None:
    made = ablations(width=4)
    assert [part for part in ("prepare", "batch", "loss", "step", "after_step", "export") if made.sets(part)] == ["loss"]
