const { SANDPOOL_ENDPOINT, SANDPOOL_TOKEN } = process.env;
const session = `example-${crypto.randomUUID()}`;

async function run(code) {
  const query = `api-version=2025-10-02-preview&identifier=${session}`;
  const response = await fetch(`${SANDPOOL_ENDPOINT}/executions?${query}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${SANDPOOL_TOKEN}`, "Content-Type": "application/json" },
    body: JSON.stringify({ code }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.error.code}: ${answer.error.message}`);
  return answer.result;
}

await run("import os\nx = 6 * 7"); // the session remembers it
const result = await run("print(x, 'from', os.getcwd())");
console.log(result.stdout);
