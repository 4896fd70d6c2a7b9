import os

from sandpool import Pool
from smolagents import OpenAIModel, ToolCallingAgent, tool

session = Pool(os.environ["SANDPOOL_ENDPOINT"], os.environ["SANDPOOL_TOKEN"]).session()


@tool
def run_python(code: str) -> str:
    """Runs Python code in a sandbox. Variables and files stay for the next call.

    Args:
        code: The code; what it prints and the value of its last expression are returned.
    """
    return session.run(code).text()


agent = ToolCallingAgent(tools=[run_python], model=OpenAIModel(model_id="gpt-4.1"))
print(agent.run("How many primes are there below 10,000? Compute it."))
session.end()
