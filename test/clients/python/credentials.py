"""Azure's own credentials for Python, told by environment variables alone, and clients that use them.

Usage: credentials.py NAME, one of "environment", "managed" and "default". The environment is what
'sandpool az setup' writes for that kind. Nothing of the clients is changed.
"""

import os
import sys

from azure.identity import DefaultAzureCredential, EnvironmentCredential, ManagedIdentityCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from langchain_azure_dynamic_sessions import SessionsPythonREPLTool

import pool

CREDENTIALS = {
    "environment": EnvironmentCredential,
    "managed": ManagedIdentityCredential,
    "default": DefaultAzureCredential,
}


def main(name):
    credential = CREDENTIALS[name]()
    for scope in ("https://dynamicsessions.io/.default", "https://management.azure.com/.default"):
        token = credential.get_token(scope)
        pool.equal(f"a token for {scope}", token.token.count("."), 2)
    azure = ContainerAppsAPIClient(credential, os.environ["AZURE_SUBSCRIPTION_ID"], base_url=os.environ["SANDPOOL_AZURE_ENDPOINT"])
    names = {p.name for p in azure.container_apps_session_pools.list_by_subscription()}
    pool.equal("a list of pools", pool.ENDPOINT.rsplit("/", 1)[1] in names, True)
    if name == "default":  # LangChain makes it by itself
        tool = SessionsPythonREPLTool(pool_management_endpoint=pool.ENDPOINT, session_id=pool.new_identifier())
        pool.equal("LangChain without a token", tool.execute("6 * 7")["result"], 42)


main(sys.argv[1])
