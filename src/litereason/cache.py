"""The last hidden states as one more layer of the KV cache.

A latent step needs the last hidden state of the position before it. Kept as a cache layer, it is
reordered, repeated, cropped and selected together with the keys and values, so that beams, several
returned sequences and assisted decoding find the right one without knowing of it.
"""

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer


class HiddenStateLayer(DynamicLayer):
    """Last hidden states in place of keys, `(batch, 1, length, hidden_size)`; no values."""

    supports_early_init = False  # its width is not the one that caches are prepared with

    def append(self, hidden: Tensor) -> None:
        """Add the states of new positions, shape `(batch, new, hidden_size)`."""
        self.update(hidden[:, None], hidden[:, None, :, :0])

    def last(self) -> Tensor:
        """State of the newest position, shape `(batch, 1, hidden_size)`."""
        return self.keys[:, 0, -1:]  # pyright: ignore[reportOptionalSubscript]


def is_static(cache: Any) -> bool:
    """Whether some layer has its full length from the start, unused places included."""
    return cache is not None and any(isinstance(layer, StaticLayer) for layer in cache.layers)


def hidden_states_of(cache: Cache) -> HiddenStateLayer:
    """The cache's layer of last hidden states; added, empty, if it has none."""
    for layer in reversed(cache.layers):
        if isinstance(layer, HiddenStateLayer):
            return layer
    layer = HiddenStateLayer()
    cache.layers.append(layer)
    return layer
