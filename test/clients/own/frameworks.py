"""Drives our own client's tools for frameworks: what a model gets from each. The variables are those
of check.py."""

import asyncio
import json
import os
from typing import Any

from agent_framework import FunctionTool
from agents import RunContextWrapper, ToolOutputImage, ToolOutputText
from agents.tool_context import ToolContext
from langchain_core.messages import ToolMessage

import sandpool
import sandpool.agent_framework
import sandpool.langchain
import sandpool.openai_agents

ENDPOINT, TOKEN = os.environ["SANDPOOL_ENDPOINT"], os.environ["SANDPOOL_TOKEN"]
FIGURE = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\nprint('drawn')"


def equal(what: str, got: object, want: object) -> None:
    """Ends the script unless got is want."""
    assert got == want, f"{what}: got {got!r}, want {want!r}"
    print(f"ok   {what}")


def call(code: str) -> dict[str, Any]:
    return {"name": "run_python", "args": {"code": code}, "id": "1", "type": "tool_call"}


def langchain() -> None:
    with sandpool.Pool(ENDPOINT, TOKEN) as pool, pool.session() as s:
        tool = sandpool.langchain.run_tool(s)
        equal("a value", tool.invoke({"code": "x = 6\nprint('hi')\nx * 7"}), "hi\n42")
        message: ToolMessage = tool.invoke(call("1/0"))
        equal("an exception", ("ZeroDivisionError" in str(message.content), message.artifact.ok), (True, False))
        message = tool.invoke(call(FIGURE))
        assert isinstance(message.content, list)
        text, image = message.content
        assert isinstance(text, dict) and isinstance(image, dict)
        equal("a figure", (text["text"], image["image_url"]["url"][:22]), ("drawn\nfigures: 1", "data:image/png;base64,"))
        equal("its artifact", message.artifact.images[0].format, "png")


async def asynchronous() -> None:
    async with sandpool.AsyncPool(ENDPOINT, TOKEN) as pool, pool.session() as s:
        tool = sandpool.langchain.run_tool(s)
        equal("with await", await tool.ainvoke({"code": "6 * 7"}), "42")

        agents = sandpool.openai_agents.run_tool(s)
        context = ToolContext(context=None, tool_name=agents.name, tool_call_id="1", tool_arguments="")
        seen = await agents.on_invoke_tool(context, json.dumps({"code": FIGURE}))
        equal("OpenAI: a figure", [type(o) for o in seen], [ToolOutputText, ToolOutputImage])
        equal("OpenAI: its parameters", list(agents.params_json_schema["properties"]), ["code"])
        assert isinstance(context, RunContextWrapper)

        framework: FunctionTool = sandpool.agent_framework.run_tool(s)
        contents = await framework.invoke(arguments={"code": FIGURE})
        equal("Microsoft: a figure", [c.type for c in contents], ["text", "data"])
        equal("Microsoft: its type", contents[1].media_type, "image/png")
        equal("Microsoft: its name", framework.name, "run_python")


langchain()
asyncio.run(asynchronous())
