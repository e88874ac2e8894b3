"""Sizes as people write and read them."""

from __future__ import annotations

from engine.errors import UsageError


def parsed_size(option: str, text: str) -> int:
    """Bytes that a text such as "500MB" or "2GiB" stands for."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise UsageError(f"{option} {text}: not a size", hint="write it like 20GB, 500MB or 2GiB") from None


def human_size(nbytes: int) -> str:
    from pydantic import ByteSize

    return ByteSize(nbytes).human_readable(decimal=True, separator=" ")
