import asyncio
import os
import tempfile

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.code_executors.azure import ACADynamicSessionsCodeExecutor
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.code_execution import PythonCodeExecutionTool
from azure.core.credentials import AccessToken


class Credential:
    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken(os.environ["SANDPOOL_TOKEN"], 2**31)


async def main() -> None:
    pool = ACADynamicSessionsCodeExecutor(
        os.environ["SANDPOOL_ENDPOINT"], Credential(), work_dir=tempfile.mkdtemp()
    )
    model = OpenAIChatCompletionClient(model="gpt-4.1")
    agent = AssistantAgent(
        "analyst", model, tools=[PythonCodeExecutionTool(pool)], reflect_on_tool_use=True
    )
    answer = await agent.run(task="How many primes are there below 10,000? Compute it.")
    print(answer.messages[-1].content)


asyncio.run(main())
