"""Finds pretrained weights in the Hugging Face cache of this machine, or on the hub, if it responds."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from timm.models import load_model_config_from_hf

from robustvit.errors import BadParameter, ModelError, WeightsUnavailable

TIMM = "hf-hub:"  # how addresses of timm's models on the hub begin
_FILES = ("model.safetensors", "pytorch_model.bin")
_TIMEOUT = 10.0  # seconds; the hub's own client tries for most of a minute before it gives up


def cached_weights(arch: str, config: dict[str, Any]) -> dict[str, Any] | None:
    """The overlay of timm's configuration that loads a cached file without a request to the hub; None where it must be downloaded.

    Raises WeightsUnavailable where the weights are on the hub, are not cached, and the hub does not respond.
    """
    repository = config.get("hf_hub_id")
    if not repository:
        return None
    named = config.get("hf_hub_filename")
    for file in (named,) if named else _FILES:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return {"file": path}
    require_hub(f"the pretrained weights of '{arch}' ({repository})", "Give them with --checkpoint PATH, or download")
    return None


def config_of(address: str) -> dict[str, Any]:
    """timm's configuration of a model on the hub, `hf-hub:ORG/NAME`, out of the cache where it is there.

    Raises WeightsUnavailable where it is neither here nor there, ModelError for a repository that holds no model of timm.
    """
    repository = address.removeprefix(TIMM)
    name, _, revision = repository.partition("@")
    try:
        here = isinstance(try_to_load_from_cache(name, "config.json", revision=revision or None), str)
    except HFValidationError as error:
        raise BadParameter(f"'{address}' names no repository of the hub: {first_line(error)}") from error
    if not here:
        require_hub(f"the files of '{address}'")
    try:
        config, _, _ = load_model_config_from_hf(repository)
    except OSError as error:
        raise WeightsUnavailable(f"'{address}' is not available: {first_line(error)}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"'{address}' holds no model of timm. A classifier of transformers is written hf/{repository}.") from error
    return dict(config)


def require_hub(what: str, way_out: str = "Download") -> None:
    """Raises WeightsUnavailable unless the hub responds; the message begins with `what`, and its last sentence with `way_out`."""
    if constants.HF_HUB_OFFLINE or not responds(constants.ENDPOINT):
        raise WeightsUnavailable(
            f"{what} are not in the Hugging Face cache ({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} does not respond. "
            f"{way_out} them on a machine with a network and copy its cache here."
        )


def responds(url: str) -> bool:
    """Whether a server responds within ten seconds, be it with an error. Proxies of the environment are used."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def page(config: dict[str, Any]) -> str:
    """The address of a timm model's page or weights."""
    repository = config.get("hf_hub_id")
    return f"{constants.ENDPOINT}/{repository}" if repository else str(config.get("url") or "")


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the error's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
