// Does what an editor does with each of the configurations here: connects, and calls a tool.
import { readFile } from "node:fs/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

for (const file of [".mcp.json", ".vscode/mcp.json", ".cursor/mcp.json"]) {
  const text = await readFile(new URL(file, import.meta.url), "utf8");
  const filled = text.replace(/\$\{(?:env:)?(\w+)\}/g, (_, name) => process.env[name]);
  const { servers, mcpServers } = JSON.parse(filled);
  const { url, headers } = (servers ?? mcpServers).sandpool;
  const client = new Client({ name: "check", version: "1" });
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  await client.connect(transport);
  const { tools } = await client.listTools();
  const { structuredContent } = await client.callTool({
    name: "runPythonCodeInRemoteEnvironment",
    arguments: { pythonCode: "import os; print(6 * 7, 'from', os.getcwd())" },
  });
  console.log(`${file}: ${tools.length} tools, ${structuredContent.stdout}`);
  await transport.terminateSession();
  await client.close();
}
