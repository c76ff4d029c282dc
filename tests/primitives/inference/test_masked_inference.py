"""What a model answers when it sees some of the pixels, against the straightforward computation on the whole picture."""

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import Answering
from robustvit.primitives.inference.masked_inference import Looks, ablated, sight, undroppable
from robustvit.primitives.inference.token_dropping import PlainViT
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.reading import Reading
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


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def every(kind: str = "columns", width: int = 5, stride: int = 1) -> Window:
    ablations = Ablations(kind, width, stride, (SIDE, SIDE))  # type: ignore[arg-type]
    return ablations.window(np.arange(ablations.count))


def by_key_mask(model: Classifier, image: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """One look, by the whole sequence with unseen tokens forbidden as keys: what dropping them means."""
    seen = torch.from_numpy(np.outer(rows, columns))
    vit, black = model.model, torch.where(seen, image, 0.0)
    tokens = seen.unfold(0, 8, 8).unfold(1, 8, 8).flatten(2).any(dim=2).flatten()
    allowed = torch.cat([torch.ones(vit.num_prefix_tokens, dtype=torch.bool), tokens])
    features = vit.forward_features((black[None] - model.mean) / model.std, attn_mask=allowed.expand(1, 1, len(allowed), -1))
    return vit.forward_head(features[:, allowed])[0]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", ["columns", "rows", "blocks"])
def test_dropped_tokens_are_those_no_key_may_be(name: str, kind: str) -> None:
    model, images, window = classifier(built(name)), pictures(), every(kind, width=5, stride=3)
    which = torch.arange(len(window.rows)) % len(images)
    with torch.no_grad():
        ours = sight(model, images, "dropped").logits(Looks(which, window))
        theirs = torch.stack([by_key_mask(model, images[i], *masks) for i, *masks in zip(which, *window, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PLAIN)
def test_every_look_votes_as_the_whole_sequence_with_hidden_keys_does(name: str, kind: torch.dtype) -> None:
    model, images, window = classifier(built(name)).to(kind), pictures(2), every(width=5)
    for i, image in enumerate(images):
        with torch.no_grad():
            ours = sight(model, images, "dropped").logits(Looks(torch.full((SIDE,), i), window)).argmax(dim=1)
            theirs = [int(by_key_mask(model, image.to(kind), *masks).argmax()) for masks in zip(*window, strict=True)]
        assert ours.tolist() == theirs


@pytest.mark.parametrize("name", PLAIN)
def test_with_everything_seen_the_model_answers_as_it_does(name: str) -> None:
    model, images = classifier(built(name)), pictures()
    whole = Window(np.ones((3, SIDE), dtype=bool), np.ones((3, SIDE), dtype=bool))
    with torch.no_grad():
        for way in ("dropped", "kept"):
            torch.testing.assert_close(sight(model, images, way).logits(Looks(torch.arange(3), whole)), model(images), rtol=1e-4, atol=1e-4)


def test_kept_is_the_model_on_pictures_with_black_in_them() -> None:
    model, images, window = classifier(built()), pictures(), every(stride=5)
    which = torch.arange(len(window.rows)) % 3
    seen = torch.from_numpy(window.rows[:, :, None] & window.columns[:, None, :])
    with torch.no_grad():
        assert torch.equal(sight(model, images, "kept").logits(Looks(which, window)), model(images[which] * seen[:, None]))


def test_dropping_and_keeping_are_two_classifiers() -> None:
    model, images, window = classifier(built()), pictures(), every()
    looks = Looks(torch.zeros(len(window.rows), dtype=torch.int64), window)
    with torch.no_grad():
        apart = sight(model, images, "dropped").logits(looks) - sight(model, images, "kept").logits(looks)
    assert float(apart.abs().max()) > 0.1


def test_a_row_does_not_depend_on_its_companions() -> None:
    model, images, window = classifier(built()), pictures(), every()
    which = torch.arange(len(window.rows)) % 3
    some = np.array([30, 2, 17])
    with torch.no_grad():
        whole = sight(model, images).logits(Looks(which, window))
        few = sight(model, images[:2]).logits(Looks(which[some] % 2, Window(window.rows[some], window.columns[some])))
    assert torch.equal(few[which[some] < 2], whole[some][which[some] < 2])


def test_tokens_are_counted() -> None:
    model, images = classifier(built("registers")), pictures()
    counts = sight(model, images).tokens(every(width=5))
    assert sorted(set(counts.tolist())) == [
        1 + 4 + 4,
        1 + 4 + 8,
    ]  # one or two columns of four tokens, with a class token and four registers
    assert sight(model, images, "kept").tokens(every(width=5)).max() == 0


def test_answers_are_read_as_the_data_reads_them() -> None:
    reading = Reading("some", 3, columns=(5, 0, 2))
    model, images, window = classifier(built()), pictures(), every(stride=9)
    looks = Looks(torch.zeros(len(window.rows), dtype=torch.int64), window)
    with torch.no_grad():
        assert torch.equal(sight(Answering(model, reading), images).logits(looks), sight(model, images).logits(looks)[:, [5, 0, 2]])


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (timm.create_model("resnet10t", num_classes=3), "it is a ResNet, and no plain VisionTransformer"),
        (timm.create_model("vit_tiny_patch16_224", **SMALL, dynamic_img_size=True), "does not cut pictures of one size"),
        (timm.create_model("vit_tiny_patch16_224", **SMALL, patch_drop_rate=0.5), "it drops patches of its own"),
    ],
)
def test_models_whose_tokens_cannot_be_dropped_say_why(module: nn.Module, why: str) -> None:
    model = classifier(module)
    assert why in undroppable(model)
    with pytest.raises(ModelError, match=f"cannot drop unseen tokens: .*{why}.*Ask `unseen: kept`"):
        sight(model, pictures(), "dropped")


def test_a_plain_transformer_that_computes_something_else_is_found_out() -> None:
    module = built()
    usual = module.forward_features
    module.forward_features = lambda pixels, **more: usual(pixels, **more) + 1
    assert "it computes something else" in undroppable(classifier(module))


@pytest.mark.parametrize("name", ["vit", "mean pool"])
def test_in_training_each_picture_sees_its_own_pixels_and_gradients_flow(name: str) -> None:
    model, images, window = classifier(built(name)), pictures(3), every(width=5)
    mine = Window(window.rows[[0, 4, 9]], window.columns[[0, 4, 9]])  # one and two columns of tokens
    model.model.requires_grad_(True)
    logits = ablated(model, images, mine)
    with torch.no_grad():
        torch.testing.assert_close(logits, sight(model, images).logits(Looks(torch.arange(3), mine)), rtol=1e-4, atol=1e-4)
    logits.sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in (model.model.pos_embed, model.model.head.weight))


def test_a_model_without_known_parts_is_trained_on_pictures_with_black_in_them() -> None:
    module, images, window = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)), pictures(2), every()
    mine = Window(window.rows[:2], window.columns[:2])
    seen = torch.from_numpy(mine.rows[:, :, None] & mine.columns[:, None, :])
    assert torch.equal(ablated(module, images, mine), module(images * seen[:, None]))


def test_float64_weights_are_looked_at_in_float64() -> None:
    module = built().double()
    plain = PlainViT(module, torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64), torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64))
    window = Window(np.ones((2, SIDE), dtype=bool), np.ones((2, SIDE), dtype=bool))
    assert plain.look(plain.cut(pictures(2)), torch.arange(2), window).dtype == torch.float64


def test_softer_attention_is_softer_where_tokens_are_dropped_too() -> None:
    model, images, window = classifier(built("distilled")), pictures(), every(stride=3)
    looks, softened = Looks(torch.arange(len(window.rows)) % 3, window), registry.lookup("transform", "attention_temperature").load()
    with torch.no_grad():
        plain, same, other = (
            sight(one, images, "dropped").logits(looks)
            for one in (model, softened(model, temperature=1.0), softened(model, temperature=3.0))
        )
        whole = Window(np.ones((1, SIDE), dtype=bool), np.ones((1, SIDE), dtype=bool))
        hot = softened(model, temperature=3.0)
        torch.testing.assert_close(
            sight(hot, images, "dropped").logits(Looks(torch.zeros(1, dtype=torch.int64), whole)), hot(images[:1]), rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(same, plain, rtol=1e-5, atol=1e-5)
    assert float((other - plain).abs().max()) > 1e-3


@pytest.mark.parametrize("where", ["root", "patch_embed", "patch_embed.proj"])
def test_what_is_hung_on_what_is_not_called_keeps_tokens(where: str) -> None:
    module = built()
    one = module if where == "root" else module.get_submodule(where)
    one.register_forward_hook(lambda called, given, made: made)
    assert "something is hung on" in undroppable(classifier(module))


def test_logits_of_any_size_are_told_apart_from_others() -> None:
    module = built()
    nn.init.normal_(module.head.weight, std=1e-5)
    nn.init.zeros_(module.head.bias)
    assert undroppable(classifier(module)) == ""
    usual = module.forward_features
    module.forward_features = lambda pixels, **more: usual(pixels.flip(3), **more)
    assert "it computes something else" in undroppable(classifier(module))


class Mirrored(Classifier):
    """Shows its host pictures from the other side."""

    def __init__(self, host: Classifier) -> None:
        super().__init__(host.model, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), view=host.view, card=host.card, tile=host.tile)
        self.host = host

    def forward(self, images: Tensor) -> Tensor:
        return self.host(images.flip(3))


def test_what_changes_pictures_keeps_tokens_also_behind_softer_attention() -> None:
    mirrored = Mirrored(classifier(built()))
    softened = registry.lookup("transform", "attention_temperature").load()(mirrored, temperature=2.0)
    assert "behind a Mirrored" in undroppable(mirrored)
    assert "behind a Mirrored" in undroppable(softened)
