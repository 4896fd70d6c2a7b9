"""A session as a tool of the Microsoft agent framework: pip install "sandpool[agent-framework]"."""

from agent_framework import Content, FunctionTool

from . import _tool
from ._async import AsyncSession


def run_tool(session: AsyncSession, *, language: _tool.Language | None = None) -> FunctionTool:
    """The tool that runs code in the session. The model sees figures."""
    name, description = _tool.words(session, language)

    async def run(code: str) -> list[Content]:
        result = await session.run(code)
        seen = [Content.from_text(result.text())]
        return seen + [Content.from_data(image.data, image.mime) for image in result.images]

    return FunctionTool(name=name, description=description, func=run)
