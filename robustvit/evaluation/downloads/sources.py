"""What an address of a data set stands for: one file, the files of a record of Zenodo, or a repository of the Hugging Face hub."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from robustvit.errors import DataError
from robustvit.evaluation.downloads.declared import Download
from robustvit.evaluation.downloads.http_file import fetch_json


def files_of(one: Download) -> list[Download]:
    """The files of an address. Those of a record are listed by the server, with sizes and md5. Raises DataError where it does not."""
    if one.record is None:
        return [one]
    host, number = one.record
    listing = fetch_json(f"{host}/api/records/{number}")
    try:
        found = [_file(one, f"{host}/records/{number}/files", about) for about in listing["files"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{one.url}: the server's list of files cannot be read.") from error
    if not found:
        raise DataError(f"{one.url}: the record holds no files.")
    return found


def _file(record: Download, folder: str, about: dict[str, Any]) -> Download:
    algorithm, _, digits = str(about["checksum"]).partition(":")
    md5, sha256 = (digits if algorithm == name else "" for name in ("md5", "sha256"))
    url = f"{folder}/{quote(about['key'])}"
    return replace(record, url=url, size=int(about["size"]), md5=md5, sha256=sha256, source=record.url)


def fetch_repository(one: Download, folder: Path) -> None:
    """Fetches every file of a repository of the Hugging Face hub into a folder; the hub's client resumes and verifies by itself.

    Raises DataError where the hub does not give them.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        huggingface_hub.snapshot_download(one.repository, repo_type="dataset", local_dir=folder)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(f"{one.url}: the hub does not give it: {str(error).splitlines()[0]}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
