"""What scenarios and transforms fitted on other samples: files of a store, each named by what it depends on and by its bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

from robustvit.records.disk import below, content_digest, set_aside, write_bytes


class ArtifactFiles:
    """The artifacts of the store at `path`."""

    path: Path

    def artifact(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of an artifact, or None. A file that is not whole is set aside, so that it is fitted anew."""
        for path in sorted((self.path / "learned").glob(f"{name}-*.safetensors")):
            content = path.read_bytes() if path.is_file() else b""
            if content_digest(content) == path.stem.partition("-")[2]:
                return safetensors.numpy.load(content)
            set_aside(below(self.path, "learned", path.name))
        return None

    def lacks_artifact(self, name: str) -> bool:
        """Whether the artifact of that name was damaged, so that it has to be fitted anew though all rows may be there."""
        return self.artifact(name) is None and any((self.path / "learned").glob(f"{name}-*.damaged"))

    def keep_artifact(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps the arrays of an artifact."""
        content = safetensors.numpy.save(arrays)
        write_bytes(below(self.path, "learned", f"{name}-{content_digest(content)}.safetensors"), content)
