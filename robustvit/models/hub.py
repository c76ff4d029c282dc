"""Where pretrained weights are: in the Hugging Face cache of this machine, or on the hub, if it answers."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache

from robustvit.errors import WeightsUnavailable

_FILES = ("model.safetensors", "pytorch_model.bin")
_PATIENCE = 10.0  # seconds; the hub's own client tries for most of a minute before it gives up


def located(arch: str, config: dict[str, Any]) -> dict[str, Any] | None:
    """What to overlay on timm's configuration so that a cached file is used without asking the hub; None where it must be asked.

    Raises WeightsUnavailable where the weights live on the hub, are not cached, and the hub does not answer.
    """
    repository = config.get("hf_hub_id")
    if not repository:
        return None
    named = config.get("hf_hub_filename")
    for file in (named,) if named else _FILES:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return {"file": path}
    require_answer(f"the pretrained weights of '{arch}' ({repository})", "Give them with --checkpoint PATH, or fetch")
    return None


def require_answer(what: str, way_out: str = "Fetch") -> None:
    """Raises WeightsUnavailable unless the hub answers; the message begins with `what`, and its last sentence with `way_out`."""
    if constants.HF_HUB_OFFLINE or not answers(constants.ENDPOINT):
        raise WeightsUnavailable(
            f"{what} are not in the Hugging Face cache ({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} does not answer. "
            f"{way_out} them on a machine with a network and copy its cache here."
        )


def answers(url: str) -> bool:
    """Whether a server says anything at all, within ten seconds. Proxies of the environment are used."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def page(config: dict[str, Any]) -> str:
    """The address of a timm model's page or weights."""
    repository = config.get("hf_hub_id")
    return f"{constants.ENDPOINT}/{repository}" if repository else str(config.get("url") or "")
