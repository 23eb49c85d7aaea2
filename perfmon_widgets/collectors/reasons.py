"""Reasons for missing numbers that the sources of several vendors give in the same words."""

from __future__ import annotations

NOT_IN_USE = "no GPU in use yet: the numbers start when this process or a child of it works on this GPU"


def no_answer(vendor: str, seconds: float) -> str:
    """Return the reason while a vendor's driver does not return from a call."""
    return f"the {vendor} driver has not answered for {seconds:.0f} s"
