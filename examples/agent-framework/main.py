import asyncio
import os

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient
from sandpool import AsyncPool
from sandpool.agent_framework import run_tool


async def main() -> None:
    async with (
        AsyncPool(os.environ["SANDPOOL_ENDPOINT"], os.environ["SANDPOOL_TOKEN"]) as pool,
        pool.session() as session,
    ):
        agent = Agent(OpenAIChatClient(model="gpt-4.1"), tools=[run_tool(session)])
        print(await agent.run("How many primes are there below 10,000? Compute it."))


asyncio.run(main())
