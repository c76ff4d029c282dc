"""The Classifier: pixels in, logits out, each row independent of the others."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import timm
import torch
import torch.utils.checkpoint
from PIL import Image
from torch import nn

import robustvit as rv
from robustvit.errors import BadParameter, ModelError, PixelRange
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

TILE = 16


def wrap(module: nn.Module, side: int = 8, **more) -> Classifier:
    card = Card("toy", Spec("toy"), fingerprint(module), "given")
    return Classifier(module, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), view=View((side, side), side), card=card, **more)


def linear(side: int = 8, classes: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes))


def images(rows: int, side: int = 8) -> torch.Tensor:
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def vit() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model("vit_tiny_patch16_224", depth=2)
    return wrap(module, 224, tile=TILE)


@pytest.fixture(scope="module")
def pixels_224() -> torch.Tensor:
    return images(20, 224)


@pytest.fixture(scope="module")
def together(vit, pixels_224) -> torch.Tensor:
    return vit(pixels_224)


def gradient(model: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    leaf = pixels.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]


@pytest.mark.parametrize("rows", [1, 7, 16])
def test_logits_do_not_depend_on_companions_at_224_pixels(vit, pixels_224, together, rows):
    assert torch.equal(vit(pixels_224[:rows]), together[:rows])


def test_logits_do_not_depend_on_the_place_in_the_batch_at_224_pixels(vit, pixels_224, together):
    order = torch.randperm(len(pixels_224), generator=torch.Generator().manual_seed(2))
    assert torch.equal(vit(pixels_224[order]), together[order])


def test_gradients_do_not_depend_on_companions_at_224_pixels(vit, pixels_224):
    whole = gradient(vit, pixels_224)
    for rows in (1, 7, 16):
        assert torch.equal(gradient(vit, pixels_224[:rows]), whole[:rows])


def test_it_normalises_by_its_own_mean_and_std():
    module, pixels = linear(), images(4)
    mean, std = torch.tensor((0.5, 0.4, 0.3)), torch.tensor((0.5, 0.25, 0.2))
    wanted = module((pixels - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(wrap(module)(pixels), wanted, atol=1e-6)


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan"), float("inf")])
def test_values_outside_the_pixel_range_are_refused(value):
    pixels = images(2)
    pixels[1, 2, 3, 4] = value
    with pytest.raises(PixelRange, match="toy"):
        wrap(linear())(pixels)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 8, 8), (3, 8, 8), (2, 3, 224, 224)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ModelError, match=r"\(N, 3, 8, 8\)"):
        wrap(linear())(torch.zeros(shape))


@pytest.mark.parametrize("module", [nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Flatten(0))])
def test_a_module_that_does_not_return_logits_is_refused(module):
    with pytest.raises(ModelError, match=r"logits of shape \(N, K\)"):
        wrap(module)(images(2))


def test_no_rows_give_no_rows_of_logits():
    assert wrap(linear())(images(0)).shape == (0, 5)


def test_outputs_is_the_number_of_logits():
    assert wrap(linear(classes=7)).outputs == 7


def test_outputs_takes_two_forward_passes_once():
    model = wrap(linear())
    calls = []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    assert (model.outputs, model.outputs, len(calls)) == (5, 5, 2)


def test_a_view_of_another_size_than_the_model_takes_is_refused_before_a_run(vit):
    wide = copy.deepcopy(vit)
    wide.view = wide.view.with_overrides(img_size=384)
    with pytest.raises(ModelError, match=r"384x384.*img_size"):
        _ = wide.outputs


def test_configure_sets_rows_and_precision_and_returns_itself():
    model = wrap(linear())
    assert model.configure(tile=3, precision="bfloat16") is model
    assert (model.tile, model.precision) == (3, "bfloat16")
    assert model.configure().tile == 3


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"tile": -1}, {"precision": "float8"}])
def test_configure_refuses_unknown_values(wrong):
    with pytest.raises(BadParameter):
        wrap(linear()).configure(**wrong)


def test_half_precision_returns_float32_near_the_full_logits():
    pixels = images(4)
    exact, half = wrap(linear())(pixels), wrap(linear(), precision="bfloat16")(pixels)
    assert half.dtype == torch.float32
    assert 0 < float((half - exact).abs().max()) < 0.05


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,) * 3), ((0.5,) * 3, (0.5, 0.5, 0.0)), ((), ())])
def test_an_invalid_normalisation_is_refused(mean, std):
    with pytest.raises(BadParameter, match="a number for each channel"):
        Classifier(linear(), mean=mean, std=std, view=View(), card=wrap(linear()).card)


def test_it_stays_in_evaluation_mode_without_parameter_gradients():
    model = wrap(nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(192, 5))).train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_preprocess_brings_an_image_to_its_size_in_unit_pixels():
    tensor = wrap(linear()).preprocess(Image.new("L", (30, 20), 255))
    assert tensor.shape == (3, 8, 8)
    assert torch.equal(tensor, torch.ones(3, 8, 8))


def test_relabel_changes_the_name_in_tables_and_nothing_else():
    model = wrap(linear())
    before = model.card
    assert model.relabel("mine").card.label == "mine"
    assert (model.card.identity, model.card.fingerprint) == (before.identity, before.fingerprint)


def test_the_fingerprint_changes_with_one_weight():
    module = linear()
    before = fingerprint(module)
    with torch.no_grad():
        module[1].weight[0, 0] += 1e-6
    assert fingerprint(module) != before


def test_the_fingerprint_survives_saving_and_loading(tmp_path):
    module, other = linear(), nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert fingerprint(other) == fingerprint(module)


def test_the_fingerprint_distinguishes_names_and_shapes():
    zero = torch.zeros(4)
    modules = [nn.ParameterDict({"a": zero}), nn.ParameterDict({"b": zero}), nn.ParameterDict({"a": zero.view(2, 2)})]
    assert len({fingerprint(module) for module in modules}) == 3


def trained() -> nn.Module:
    """A module in training, with batch statistics, dropout, a weight of two names and one that is not trained."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 5))
    module[0].bias.requires_grad_(False)
    module.again = module[4].weight
    module.seen = module[4].weight * 2  # what a forward pass leaves behind: no leaf
    module[3].eval()
    return module.train().apply(lambda part: part.eval() if isinstance(part, nn.Dropout) else part)


def state(module: nn.Module) -> list[object]:
    grads = [(name, one.requires_grad) for name, one in module.named_parameters()]
    return [*((name, part.training) for name, part in module.named_modules()), *grads, fingerprint(module)]


def test_the_callers_module_is_left_alone() -> None:
    module = trained()
    before = state(module)
    model = wrap(module)
    gradient(model, images(3))
    model.train().eval().configure(tile=4)
    assert state(module) == before


def test_the_callers_training_mode_changes_no_logit_and_no_statistics() -> None:
    module = trained()
    model, pixels = wrap(module), images(3)
    before, statistics = model(pixels), module[1].running_mean.clone()
    module.train()
    assert torch.equal(model(pixels), before)
    assert torch.equal(module[1].running_mean, statistics)


def test_it_sees_what_an_optimizer_does_and_shares_the_memory() -> None:
    module = trained()
    model, pixels = wrap(module), images(3)
    module[4].weight.grad = torch.ones_like(module[4].weight)
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    module(images(8))
    assert torch.equal(model(pixels), wrap(copy.deepcopy(plain(module)))(pixels))
    assert [one.data_ptr() for one in model.model.state_dict().values()] == [one.data_ptr() for one in module.state_dict().values()]
    assert model.model.again is model.model[4].weight


def plain(module: nn.Module) -> nn.Module:
    del module.seen
    return module


def test_no_gradient_reaches_the_callers_parameters() -> None:
    module = trained()
    leaf = images(2).requires_grad_()
    wrap(module)(leaf).sum().backward()
    assert leaf.grad is not None
    assert all(parameter.grad is None for parameter in module.parameters())


def test_wrapping_a_classifiers_module_again_copies_nothing() -> None:
    model = wrap(trained())
    assert wrap(model.model).model is model.model
    model.model.train()  # somebody trains that one: it is the caller's then
    assert wrap(model.model).model is not model.model


def test_a_module_that_cannot_be_copied_is_refused_with_its_reason() -> None:
    module = linear()
    module.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"'toy': its Sequential holds something that cannot be copied .*lock"):
        wrap(module)


def test_preprocess_takes_the_image_of_a_sample() -> None:
    model, image = rv.load_model("demo"), rv.load_data("digits")[0].image
    assert torch.equal(model.preprocess(image), model.preprocess(Image.fromarray(image)))


class _Means(nn.Module):
    """Logits that are the means of the channels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_an_upsampled_classifier_computes_at_its_hosts_size() -> None:
    host = wrap(_Means(), side=12)
    small = UpsampledClassifier(host, View((8, 8), None, shown=(12, 12)))
    flat = torch.full((5, 3, 8, 8), 0.25)
    assert torch.allclose(small(flat), host(torch.full((5, 3, 12, 12), 0.25)), atol=1e-6)
    assert (small.size, small.card) == ((8, 8), host.card)
    with pytest.raises(ModelError, match=r"\(N, 3, 8, 8\)"):
        small(torch.zeros(1, 3, 12, 12))


def test_upsampling_is_pillows_bicubic() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    ours = nn.functional.interpolate(torch.tensor(image)[None, None] / 255.0, (12, 12), mode="bicubic", antialias=True).clamp(0, 1)
    pillow = np.asarray(Image.fromarray(image).resize((12, 12), Image.Resampling.BICUBIC))
    assert np.abs(255 * ours[0, 0].numpy() - pillow).max() < 1.01


def test_gradients_pass_through_the_upsampling() -> None:
    small = UpsampledClassifier(wrap(_Means(), side=12), View((8, 8), None, shown=(12, 12)))
    images = torch.full((2, 3, 8, 8), 0.5, requires_grad=True)
    small(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.sum(dim=(1, 2, 3)).tolist() == pytest.approx([2.0, 2.0], abs=1e-4)  # 1 / std


def test_half_precision_weights_are_refused_with_what_would_do() -> None:
    with pytest.raises(ModelError, match=r"weights of torch.float16; give them as float32 .* --precision float16"):
        wrap(linear().half())


def test_float64_weights_make_a_float64_model() -> None:
    logits = wrap(linear().double())(images(2))
    assert logits.dtype == torch.float64


def test_a_single_logit_is_that_of_the_second_of_two_classes() -> None:
    module = linear(classes=1)
    model, pixels = wrap(module), images(3)
    assert model.outputs == 2
    assert model(pixels)[:, 0].tolist() == [0.0] * 3
    sigmoid = torch.sigmoid(wrap(linear(classes=1))(pixels)[:, 1])
    assert torch.allclose(model(pixels).softmax(dim=1)[:, 1], sigmoid)
    assert torch.allclose(gradient(model, pixels), torch.zeros_like(pixels))  # of the first class's logit


@pytest.mark.parametrize("channels", [1, 4])
def test_a_model_has_its_own_number_of_channels(channels: int) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 5))
    model = Classifier(module, mean=(0.5,) * channels, std=(0.25,) * channels, view=View((8, 8), 8), card=wrap(linear()).card)
    pixels = torch.rand(2, channels, 8, 8)
    assert (model.channels, model.outputs) == (channels, 5)
    assert torch.allclose(model(pixels), module((pixels - 0.5) / 0.25), atol=1e-6)
    with pytest.raises(ModelError, match=rf"\(N, {channels}, 8, 8\)"):
        model(images(2))
    with pytest.raises(ModelError, match=rf"takes images of {channels} channels, and data 'digits' has RGB"):
        rv.run("quick", models=[model], data="digits", limit=2)


class Wrapping(torch.Tensor):
    """A tensor that stands for another, a quarter of it in int8, as quantisers have them."""

    @staticmethod
    def __new__(cls, data, scale):
        return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype)

    def __init__(self, data, scale) -> None:
        self.data8, self.scale = data, scale

    def __tensor_flatten__(self):
        return ["data8", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return Wrapping(inner["data8"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].data8, args[0].scale)
        raise NotImplementedError(f"{function} of a quantised tensor")


def quantised(level: int = 1, scale: float = 0.5) -> nn.Module:
    module = nn.Linear(2, 2)
    wrapped = Wrapping(torch.full((2, 2), level, dtype=torch.int8), torch.tensor(scale))
    module.weight = nn.Parameter(wrapped, requires_grad=False)
    nn.init.zeros_(module.bias)
    return module


def test_the_fingerprint_covers_what_a_wrapping_tensor_wraps() -> None:
    assert fingerprint(quantised()) == fingerprint(quantised())
    assert len({fingerprint(quantised(*values)) for values in ((1, 0.5), (2, 0.5), (1, 0.25))}) == 3


class Recomputing(nn.Module):
    """Recomputes its activations in the backward pass, in the way that torch advises against."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, images):
        return torch.utils.checkpoint.checkpoint(self.inner, images, use_reentrant=True)


def test_reentrant_checkpointing_is_the_reason_why_an_attack_fails() -> None:
    model, pixels = wrap(Recomputing()), images(2)
    with pytest.raises(ModelError, match="use_reentrant=False"):
        rv.perturb(model, pixels, model(pixels).argmax(dim=1), "pgd", eps="4/255")


def test_a_module_without_numbers_is_refused() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(ModelError, match=r"2 of its parameters have no numbers.*first 1.weight"):
        Classifier(module, mean=(0.5,) * 3, std=(0.5,) * 3, view=View((8, 8), 8), card=wrap(linear()).card)


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("boom"), "ValueError: boom"), (RuntimeError("a\n b."), "RuntimeError: a b"), (AssertionError(), "AssertionError")],
)
def test_what_a_module_raises_is_told_and_its_size_is_only_a_possibility(error: Exception, told: str) -> None:
    class Raises(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise error

    with pytest.raises(ModelError) as caught:
        _ = wrap(Raises()).outputs
    start = f"model 'toy' raised {told}. It was given images of 8x8 pixels, as its view says. If it takes another size, choose"
    assert str(caught.value).startswith(start)
    assert caught.value.__cause__ is error
