import asyncio
import os

from httpx import AsyncClient
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.core_plugins import SessionsPythonTool


async def token() -> str:
    return os.environ["SANDPOOL_TOKEN"]


async def main() -> None:
    pool = SessionsPythonTool(
        pool_management_endpoint=os.environ["SANDPOOL_ENDPOINT"],
        auth_callback=token,
        http_client=AsyncClient(timeout=120),  # its own gives up after 5 seconds
    )
    model = OpenAIChatCompletion(ai_model_id="gpt-4.1")
    agent = ChatCompletionAgent(service=model, plugins=[pool])
    print(await agent.get_response("How many primes are there below 10,000? Compute it."))


asyncio.run(main())
