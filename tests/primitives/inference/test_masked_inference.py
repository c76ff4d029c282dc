"""Masked inference, against the straightforward computation on the whole image."""

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier
from robustvit.primitives.inference.masked_inference import MaskedViews, mask_model, masked_forward, why_not_droppable
from robustvit.primitives.inference.token_dropping import PlainViT
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.reading import Reading
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations, Window
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

SIDE = 32
SMALL = {"img_size": SIDE, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 7}
PLAIN = {
    "vit": ("vit_tiny_patch16_224", {}),
    "mean pool": ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False, "fc_norm": True}),
    "registers": ("vit_tiny_patch16_224", {"reg_tokens": 4, "no_embed_class": True}),
    "layer scale": ("vit_tiny_patch16_224", {"init_values": 0.1, "qk_norm": True, "pre_norm": True}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
}


def built(name: str = "vit", **more) -> nn.Module:
    arch, own = PLAIN[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = timm.create_model(arch, **SMALL, **own, **more)
        for parameter in module.parameters():  # so that no bias, position or scale is zero and none is forgotten
            nn.init.normal_(parameter, std=0.2)
    return module


def classifier(module: nn.Module, tile: int = 4, side: int = SIDE) -> Classifier:
    card = Card("toy", Spec("given"), fingerprint(module), "given")
    view = View((side, side), None, "none")
    return Classifier(module, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), view=view, card=card, tile=tile)


def random_images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def every(kind: str = "columns", width: int = 5, stride: int = 1) -> Window:
    ablations = Ablations(kind, width, stride, (SIDE, SIDE))  # type: ignore[arg-type]
    return ablations.window(np.arange(ablations.count))


def by_key_mask(model: Classifier, image: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Logits of one masked view, by the whole sequence with masked tokens excluded from the keys: the definition of dropping them."""
    visible = torch.from_numpy(np.outer(rows, columns))
    vit, black = model.model, torch.where(visible, image, 0.0)
    tokens = visible.unfold(0, 8, 8).unfold(1, 8, 8).flatten(2).any(dim=2).flatten()
    allowed = torch.cat([torch.ones(vit.num_prefix_tokens, dtype=torch.bool), tokens])
    features = vit.forward_features((black[None] - model.mean) / model.std, attn_mask=allowed.expand(1, 1, len(allowed), -1))
    return vit.forward_head(features[:, allowed])[0]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", ["columns", "rows", "blocks"])
def test_dropping_tokens_equals_excluding_them_from_the_keys(name: str, kind: str) -> None:
    model, images, window = classifier(built(name)), random_images(), every(kind, width=5, stride=3)
    which = torch.arange(len(window.rows)) % len(images)
    with torch.no_grad():
        ours = mask_model(model, images, "dropped").logits(MaskedViews(which, window))
        theirs = torch.stack([by_key_mask(model, images[i], *masks) for i, *masks in zip(which, *window, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PLAIN)
def test_every_view_predicts_as_the_whole_sequence_with_excluded_keys_does(name: str, kind: torch.dtype) -> None:
    model, images, window = classifier(built(name)).to(kind), random_images(2), every(width=5)
    for i, image in enumerate(images):
        with torch.no_grad():
            ours = mask_model(model, images, "dropped").logits(MaskedViews(torch.full((SIDE,), i), window)).argmax(dim=1)
            theirs = [int(by_key_mask(model, image.to(kind), *masks).argmax()) for masks in zip(*window, strict=True)]
        assert ours.tolist() == theirs


@pytest.mark.parametrize("name", PLAIN)
def test_with_every_pixel_visible_the_logits_are_those_of_the_model(name: str) -> None:
    model, images = classifier(built(name)), random_images()
    whole = Window(np.ones((3, SIDE), dtype=bool), np.ones((3, SIDE), dtype=bool))
    with torch.no_grad():
        for way in ("dropped", "kept"):
            torch.testing.assert_close(
                mask_model(model, images, way).logits(MaskedViews(torch.arange(3), whole)), model(images), rtol=1e-4, atol=1e-4
            )


def test_kept_is_the_model_on_images_with_hidden_pixels_black() -> None:
    model, images, window = classifier(built()), random_images(), every(stride=5)
    which = torch.arange(len(window.rows)) % 3
    visible = torch.from_numpy(window.rows[:, :, None] & window.columns[:, None, :])
    with torch.no_grad():
        assert torch.equal(mask_model(model, images, "kept").logits(MaskedViews(which, window)), model(images[which] * visible[:, None]))


def test_dropping_and_keeping_are_two_classifiers() -> None:
    model, images, window = classifier(built()), random_images(), every()
    views = MaskedViews(torch.zeros(len(window.rows), dtype=torch.int64), window)
    with torch.no_grad():
        apart = mask_model(model, images, "dropped").logits(views) - mask_model(model, images, "kept").logits(views)
    assert float(apart.abs().max()) > 0.1


def test_a_row_does_not_depend_on_its_companions() -> None:
    model, images, window = classifier(built()), random_images(), every()
    which = torch.arange(len(window.rows)) % 3
    some = np.array([30, 2, 17])
    with torch.no_grad():
        whole = mask_model(model, images).logits(MaskedViews(which, window))
        few = mask_model(model, images[:2]).logits(MaskedViews(which[some] % 2, Window(window.rows[some], window.columns[some])))
    assert torch.equal(few[which[some] < 2], whole[some][which[some] < 2])


def test_tokens_are_counted() -> None:
    model, images = classifier(built("registers")), random_images()
    counts = mask_model(model, images).token_counts(every(width=5))
    assert sorted(set(counts.tolist())) == [
        1 + 4 + 4,
        1 + 4 + 8,
    ]  # one or two columns of four tokens, with a class token and four registers
    assert mask_model(model, images, "kept").token_counts(every(width=5)).max() == 0


def test_logits_are_read_by_the_reading_of_the_data() -> None:
    reading = Reading("some", 3, columns=(5, 0, 2))
    model, images, window = classifier(built()), random_images(), every(stride=9)
    views = MaskedViews(torch.zeros(len(window.rows), dtype=torch.int64), window)
    with torch.no_grad():
        assert torch.equal(
            mask_model(ReadClassifier(model, reading), images).logits(views), mask_model(model, images).logits(views)[:, [5, 0, 2]]
        )


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (timm.create_model("resnet10t", num_classes=3), "it is a ResNet, and no plain VisionTransformer"),
        (timm.create_model("vit_tiny_patch16_224", **SMALL, dynamic_img_size=True), "does not cut images of one size"),
        (timm.create_model("vit_tiny_patch16_224", **SMALL, patch_drop_rate=0.5), "it drops patches of its own"),
    ],
)
def test_the_reason_why_tokens_cannot_be_dropped_is_reported(module: nn.Module, why: str) -> None:
    model = classifier(module)
    assert why in why_not_droppable(model)
    with pytest.raises(ModelError, match=f"cannot drop masked tokens: .*{why}.*Set `unseen: kept`"):
        mask_model(model, random_images(), "dropped")


def test_a_plain_transformer_that_computes_something_else_is_detected() -> None:
    module = built()
    usual = module.forward_features
    module.forward_features = lambda pixels, **more: usual(pixels, **more) + 1
    assert "it computes something else" in why_not_droppable(classifier(module))


@pytest.mark.parametrize("name", ["vit", "mean pool"])
def test_in_training_each_image_has_its_own_mask_and_gradients_flow(name: str) -> None:
    model, images, window = classifier(built(name)), random_images(3), every(width=5)
    mine = Window(window.rows[[0, 4, 9]], window.columns[[0, 4, 9]])  # one and two columns of tokens
    model.model.requires_grad_(True)
    logits = masked_forward(model, images, mine)
    with torch.no_grad():
        torch.testing.assert_close(logits, mask_model(model, images).logits(MaskedViews(torch.arange(3), mine)), rtol=1e-4, atol=1e-4)
    logits.sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in (model.model.pos_embed, model.model.head.weight))


def test_in_training_a_model_whose_logits_are_not_read_is_taken() -> None:
    model, images, window = classifier(built()), random_images(2), every(width=5)
    mine = Window(window.rows[:2], window.columns[:2])
    on_pixels = OnPixels(model.model, model.mean.flatten().tolist(), model.std.flatten().tolist())
    assert torch.equal(masked_forward(on_pixels, images, mine), masked_forward(model, images, mine))


def test_a_model_without_known_parts_is_trained_on_images_with_hidden_pixels_black() -> None:
    module, images, window = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)), random_images(2), every()
    mine = Window(window.rows[:2], window.columns[:2])
    visible = torch.from_numpy(mine.rows[:, :, None] & mine.columns[:, None, :])
    assert torch.equal(masked_forward(module, images, mine), module(images * visible[:, None]))


def test_float64_weights_compute_in_float64() -> None:
    module = built().double()
    plain = PlainViT(module, torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64), torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64))
    window = Window(np.ones((2, SIDE), dtype=bool), np.ones((2, SIDE), dtype=bool))
    assert plain.logits(plain.patchify(random_images(2)), torch.arange(2), window).dtype == torch.float64


def test_attention_temperature_applies_where_tokens_are_dropped_too() -> None:
    model, images, window = classifier(built("distilled")), random_images(), every(stride=3)
    views, with_temperature = (
        MaskedViews(torch.arange(len(window.rows)) % 3, window),
        registry.lookup("transform", "attention_temperature").load(),
    )
    with torch.no_grad():
        plain, same, other = (
            mask_model(one, images, "dropped").logits(views)
            for one in (model, with_temperature(model, temperature=1.0), with_temperature(model, temperature=3.0))
        )
        whole = Window(np.ones((1, SIDE), dtype=bool), np.ones((1, SIDE), dtype=bool))
        hot = with_temperature(model, temperature=3.0)
        torch.testing.assert_close(
            mask_model(hot, images, "dropped").logits(MaskedViews(torch.zeros(1, dtype=torch.int64), whole)),
            hot(images[:1]),
            rtol=1e-4,
            atol=1e-4,
        )
    torch.testing.assert_close(same, plain, rtol=1e-5, atol=1e-5)
    assert float((other - plain).abs().max()) > 1e-3


@pytest.mark.parametrize("where", ["root", "patch_embed", "patch_embed.proj"])
def test_hooks_on_modules_that_dropping_bypasses_keep_tokens(where: str) -> None:
    module = built()
    one = module if where == "root" else module.get_submodule(where)
    one.register_forward_hook(lambda called, given, made: made)
    assert "has hooks or was replaced" in why_not_droppable(classifier(module))


def test_a_disagreement_is_detected_for_logits_of_any_size() -> None:
    module = built()
    nn.init.normal_(module.head.weight, std=1e-5)
    nn.init.zeros_(module.head.bias)
    assert why_not_droppable(classifier(module)) == ""
    usual = module.forward_features
    module.forward_features = lambda pixels, **more: usual(pixels.flip(3), **more)
    assert "it computes something else" in why_not_droppable(classifier(module))


class Mirrored(Classifier):
    """Mirrors the images of its host."""

    def __init__(self, host: Classifier) -> None:
        super().__init__(host.model, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), view=host.view, card=host.card, tile=host.tile)
        self.host = host

    def forward(self, images: Tensor) -> Tensor:
        return self.host(images.flip(3))


def test_a_wrapper_that_changes_images_keeps_tokens_also_behind_attention_temperature() -> None:
    mirrored = Mirrored(classifier(built()))
    heated = registry.lookup("transform", "attention_temperature").load()(mirrored, temperature=2.0)
    assert "wrapped in a Mirrored" in why_not_droppable(mirrored)
    assert "wrapped in a Mirrored" in why_not_droppable(heated)
