"""A session as a tool of the OpenAI agents SDK: pip install "sandpool[openai-agents]"."""

from agents import FunctionTool, ToolOutputImage, ToolOutputText, function_tool

from . import _tool
from ._async import AsyncSession


def run_tool(session: AsyncSession, *, language: _tool.Language | None = None) -> FunctionTool:
    """The tool that runs code in the session. The model sees figures."""
    name, description = _tool.words(session, language)

    async def run(code: str) -> list[ToolOutputText | ToolOutputImage]:
        result = await session.run(code)
        seen: list[ToolOutputText | ToolOutputImage] = [ToolOutputText(text=result.text())]
        return seen + [ToolOutputImage(image_url=image.url) for image in result.images]

    return function_tool(run, name_override=name, description_override=description)
