import asyncio
import os

from agents import Agent, Runner
from sandpool import AsyncPool
from sandpool.openai_agents import run_tool


async def main() -> None:
    async with (
        AsyncPool(os.environ["SANDPOOL_ENDPOINT"], os.environ["SANDPOOL_TOKEN"]) as pool,
        pool.session() as session,
    ):
        agent = Agent(name="analyst", model="gpt-4.1", tools=[run_tool(session)])
        answer = await Runner.run(agent, "How many primes are there below 10,000? Compute it.")
        print(answer.final_output)


asyncio.run(main())
