import { openai } from "@ai-sdk/openai";
import { generateText, isStepCount, tool } from "ai";
import { Pool } from "sandpool";
import { z } from "zod";

const session = new Pool(process.env.SANDPOOL_ENDPOINT, process.env.SANDPOOL_TOKEN).session();
const runPython = tool({
  description: "Runs Python code in a sandbox. Variables and files stay for the next call.",
  inputSchema: z.object({ code: z.string() }),
  execute: async ({ code }) => {
    const { stdout, stderr, value } = await session.run(code);
    return { stdout, stderr, value };
  },
});
const { text } = await generateText({
  model: openai("gpt-4.1"),
  tools: { runPython },
  stopWhen: isStepCount(5),
  prompt: "How many primes are there below 10,000? Compute it.",
});
console.log(text);
await session.end();
