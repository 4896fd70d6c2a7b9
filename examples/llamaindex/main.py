import asyncio
import os

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI
from llama_index.tools.azure_code_interpreter import AzureCodeInterpreterToolSpec

pool = AzureCodeInterpreterToolSpec(pool_management_endpoint=os.environ["SANDPOOL_ENDPOINT"])
pool.access_token_provider = lambda: os.environ["SANDPOOL_TOKEN"]
agent = FunctionAgent(tools=pool.to_tool_list(), llm=OpenAI(model="gpt-4.1"))


async def main() -> None:
    print(await agent.run("How many primes are there below 10,000? Compute it."))


asyncio.run(main())
