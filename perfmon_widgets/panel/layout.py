"""Layout: an ipywidgets Layout that takes little of a saved notebook."""

from __future__ import annotations

from typing import Any

import ipywidgets


class Layout(ipywidgets.Layout):
    """A Layout that sends what is set, and not the forty properties that are None: a kilobyte each time."""

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the state as any widget does; all of it (``key`` is None) without what is None."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        return (
            state if key is not None else {name: value for name, value in state.items() if value is not None}
        )
