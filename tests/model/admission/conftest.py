"""Bundles taken apart and put together again with a right hash."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from daemon.model.bundle import MAGIC, Bundle

GROWTH = 256 << 10
"""KiB by which a property may raise the process's peak memory."""
Parts = tuple[dict[str, Any], dict[str, np.ndarray]]


def files(bundle: Bundle) -> tuple[bytes, bytes]:
    """The manifest and the weights, as bytes."""
    data = bundle.to_bytes()
    head = len(MAGIC) + 4
    stop = head + struct.unpack(">I", data[len(MAGIC) : head])[0]
    return data[head:stop], data[stop:]


def parts(bundle: Bundle) -> Parts:
    manifest, weights = files(bundle)
    return json.loads(manifest), load_tensors(weights)


def put_together(manifest: Any, weights: bytes | Mapping[str, np.ndarray]) -> bytes:
    """Bytes of a bundle with a right hash, whatever else is wrong."""
    if not isinstance(weights, bytes):
        weights = save_tensors(dict(weights))
    if isinstance(manifest, dict) and isinstance(manifest.get("weights"), dict):
        manifest = {
            **manifest,
            "weights": {**manifest["weights"], "sha256": hashlib.sha256(weights).hexdigest()},
        }
    text = json.dumps(manifest).encode()
    return MAGIC + struct.pack(">I", len(text)) + text + weights
