"""What a run holds for itself alone: outputs that their keys don't determine."""

from __future__ import annotations

from collections.abc import Collection
from secrets import token_hex

from engine.graph.keys import Key, part_key
from engine.node import Node
from engine.spec import Outputs
from engine.store.cache import Cache, Entry, passing


class Holding:
    """The outputs that aren't lasting, and the parts of their work that nodes keep.

    What isn't lasting, such as a random number or what was read from a replaced file, never gets into the cache under
    its own key. The run's tasks hold it. If the plan may grow, and ask for it again, memory does too as long as there
    is room, under a key that no other run has; and so does the device's, in any case, from where it can be moved.

    Args:
        cache: shared with other runs.
        device: where the run computes, which enters the keys of parts.
        grows: whether the plan may grow.
    """

    def __init__(self, cache: Cache, device: str, *, grows: bool) -> None:
        self._cache = cache
        self._device = device
        self._grows = grows
        self._run = token_hex(16)
        self._own: set[Key] = set()
        """What is held, or was, for this run alone."""

    def held(self, key: Key) -> bool:
        """Whether outputs are held for this run alone."""
        return key in self._own and self._cache.held(self._own_key(key))

    def get(self, key: Key) -> Entry | None:
        """What is held for this run alone, or else what the cache holds."""
        own = self._cache.get(self._own_key(key)) if key in self._own else None
        return own or self._cache.get(key)

    def put(self, key: Key, outputs: Outputs, seconds: float) -> Entry:
        """Outputs that aren't lasting, held as far as that may be of use."""
        entry = passing(outputs, seconds)
        if self._grows or entry.on_device:
            self._put(key, entry)
        return entry

    def recall(self, kind: type[Node], lasting: bool, name: str, *, anywhere: bool = False) -> Outputs | None:
        """What a kind of node kept under a name; only in this run, unless what it makes is lasting."""
        key = part_key(kind, name, None if anywhere else self._device)
        entry = self._cache.get(key if lasting else self._own_key(key))
        return entry.host_outputs() if entry else None

    def keep(
        self,
        kind: type[Node],
        lasting: bool,
        name: str,
        outputs: Outputs,
        seconds: float,
        *,
        anywhere: bool = False,
        instead_of: Collection[str] = (),
    ) -> None:
        """Keep a part of a node's work under a name; only for this run, unless what it makes is lasting.

        The parts that it is kept `instead_of` are held no longer, as soon as it is.
        """
        device = None if anywhere else self._device
        key, others = part_key(kind, name, device), [part_key(kind, other, device) for other in {*instead_of} - {name}]
        if lasting:
            self._cache.put(key, outputs, seconds, upstream=0, keep=True, instead_of=others)
        else:
            self._put(key, passing(outputs, seconds))
            self._cache.drop(map(self._own_key, others))

    def close(self) -> None:
        """Hold nothing for this run any longer."""
        self._cache.drop(map(self._own_key, self._own))

    def _put(self, key: Key, entry: Entry) -> None:
        self._own.add(key)
        self._cache.put_passing(self._own_key(key), entry)

    def _own_key(self, key: Key) -> Key:
        return f"{self._run} {key}"
