"""Arrays computed once and kept in files that processes share."""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..predict.files import write

__all__ = ["ArrayCache"]


class ArrayCache:
    """Arrays that are computed from others, each in a file named by those and the parameters.

    What is asked for a second time is read through a memory map, whoever asks, as long as the
    folder stays; to delete it costs only time. Any number of threads and processes may share it: a
    file appears whole or not at all.

    Args:
        folder: made when it is first needed; None: compute every time.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(
        self,
        source: np.ndarray,
        parameters: Mapping[str, Any],
        shape: tuple[int, ...],
        compute: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """What `compute` gives, or has given for the same `source` and `parameters`.

        Args:
            shape: of the array; a file that holds another one is not believed.
        """
        if self.folder is None:
            return compute()
        digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16)
        digest.update(repr((source.shape, sorted(parameters.items()))).encode())
        name = digest.hexdigest()
        path = self.folder / name[:2] / f"{name[2:]}.npy"
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass  # not there yet, or cut short by a full disk or a loss of power
        else:
            if found.shape == shape:
                return found
        found = compute()
        content = io.BytesIO()
        np.save(content, found)
        write(path, content.getvalue())
        return found
