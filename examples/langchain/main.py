import os

from langchain.agents import create_agent
from langchain_azure_dynamic_sessions import SessionsPythonREPLTool

python = SessionsPythonREPLTool(
    pool_management_endpoint=os.environ["SANDPOOL_ENDPOINT"],
    access_token_provider=lambda: os.environ["SANDPOOL_TOKEN"],
)
agent = create_agent("openai:gpt-4.1", tools=[python])
question = "How many primes are there below 10,000? Compute it."
print(agent.invoke({"messages": [("user", question)]})["messages"][-1].content)
