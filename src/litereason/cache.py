"""The KV cache: the last hidden states as one more layer, and layers with room to grow.

A latent step needs the last hidden state of the position before it. Kept as a cache layer, it is
reordered, repeated, cropped and selected together with the keys and values, so that beams, several
returned sequences and assisted decoding find the right one without knowing of it.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer

from litereason.errors import LatentError


class GrowingLayer(DynamicLayer):
    """Keys and values with room behind them: a new position copies that position only.

    What HF's dynamic layer copies at every step is the whole cache. With gradients it does the same
    here, because states that a backward pass needs must not be written over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rooms: list[Tensor | None] = [None, None]

    def __copy__(self) -> "GrowingLayer":
        """A copy that shares what is held, but not the room behind it, which both would write to."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self), _rooms=[None, None])
        return twin

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append states `(batch, heads, new, width)`; returns all of them so far."""
        if torch.is_grad_enabled():
            return super().update(key_states, value_states, *args, **kwargs)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._append(0, self.keys, key_states)
        self.values = self._append(1, self.values, value_states)
        return self.keys, self.values

    def _append(self, which: int, held: Any, new: Tensor) -> Tensor:
        past = held.shape[-2] if held.dim() == 4 else 0  # an empty layer holds a flat tensor
        length, room = past + new.shape[-2], self._rooms[which]
        # whatever selected, repeated or reordered rows left a tensor of its own behind
        if room is None or held._base is not room or room.shape[-2] < length:
            size = length + max(64, length // 8)
            room = new.new_empty(*new.shape[:2], size, new.shape[-1])
            if past:
                room[:, :, :past] = held
            self._rooms[which] = room
        room[:, :, past:length] = new
        return room[:, :, :length]


class HiddenStateLayer(GrowingLayer):
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


def with_room(cache: Cache) -> Cache:
    """An empty dynamic cache with its plain layers replaced by growing ones, in place."""
    cache.layers = [GrowingLayer() if type(x) is DynamicLayer else x for x in cache.layers]
    return cache


def drop_columns(cache: Cache, count: int) -> bool:
    """Drop the oldest `count` positions of every row, if all layers hold all positions."""
    layers = [layer for layer in cache.layers if isinstance(layer, GrowingLayer)]
    if len(layers) < len(cache.layers):
        return False
    for layer in layers:
        if layer.keys is not None and layer.values is not None:
            layer.keys, layer.values = layer.keys[:, :, count:], layer.values[:, :, count:]
    return True


def hidden_states_of(cache: Cache) -> HiddenStateLayer:
    """The cache's layer of last hidden states; added, empty, if it has none."""
    for layer in reversed(cache.layers):
        if isinstance(layer, HiddenStateLayer):
            return layer
    layer = HiddenStateLayer()
    cache.layers.append(layer)
    return layer


def has_past(cache: Any) -> bool:
    """Whether a KV cache holds any position."""
    return cache is not None and cache.get_seq_length() > 0


def check_cache(cache: Any, spine: Any) -> None:
    """Raise `LatentError` if a KV cache was filled by another model, or without latent steps."""
    if cache is None or not len(cache.layers):
        return
    past = int(cache.get_seq_length())
    if not past:
        return
    layer = hidden_states_of(cache)
    layers, width = spine.config.num_hidden_layers, spine.config.hidden_size
    if layer.keys is not None and (cache.layers.index(layer), layer.keys.shape[-1]) != (
        layers,
        width,
    ):
        raise LatentError(
            f"the KV cache was filled by another model: it has {cache.layers.index(layer)} layers of width "
            f"{layer.keys.shape[-1]}, this model {layers} of width {width}"
        )
    if (held := layer.get_seq_length()) != past:
        raise LatentError(
            f"the KV cache holds {past} positions but the last hidden states of {held}: it was filled "
            "by a model without latent steps. Fill it with this model, or pass none"
        )
