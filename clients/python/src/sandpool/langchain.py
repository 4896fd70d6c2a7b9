"""A session as a tool of LangChain: pip install "sandpool[langchain]"."""

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from . import _tool
from ._async import AsyncSession
from ._sync import Session
from ._wire import Result

Answer = tuple[str | list[str | dict[str, Any]], Result]


def run_tool(session: Session | AsyncSession, *, language: _tool.Language | None = None) -> BaseTool:
    """The tool that runs code in the session. Figures are content of its message, whose artifact is the
    Result. One of an AsyncSession is called by ainvoke alone."""
    name, description = _tool.words(session, language)

    async def run_async(code: str) -> Answer:
        assert isinstance(session, AsyncSession)
        return _content(await session.run(code))

    def run(code: str) -> Answer:
        assert isinstance(session, Session)
        return _content(session.run(code))

    how: dict[str, Any] = {"coroutine": run_async} if isinstance(session, AsyncSession) else {"func": run}
    return StructuredTool.from_function(
        name=name, description=description, response_format="content_and_artifact", **how
    )


def _content(result: Result) -> Answer:
    if not result.images:
        return result.text(), result
    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": result.text()}]
    blocks += [{"type": "image_url", "image_url": {"url": image.url}} for image in result.images]
    return blocks, result
