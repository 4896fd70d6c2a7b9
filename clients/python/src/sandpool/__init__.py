"""Client of sandpool: run code that nobody has reviewed in warm, isolated sandboxes."""

from ._async import AsyncPool, AsyncSession
from ._sync import Pool, Session
from ._wire import (
    Event,
    ExecutionFailed,
    File,
    Image,
    PoolFull,
    Result,
    SandpoolError,
    SessionEnded,
    Token,
    Unreachable,
)

__all__ = [
    "AsyncPool",
    "AsyncSession",
    "Event",
    "ExecutionFailed",
    "File",
    "Image",
    "Pool",
    "PoolFull",
    "Result",
    "SandpoolError",
    "Session",
    "SessionEnded",
    "Token",
    "Unreachable",
]
