// The Vercel AI SDK over its two OpenAI providers: ai_sdk.mjs URL MODEL TEXTS
import { readFileSync } from "node:fs";
import { embed, embedMany } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const [url, model, path] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(path, "utf-8"));
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "x" });
const compatible = createOpenAICompatible({ name: "embedserve", baseURL: `${url}/v1` });
const options = { maxRetries: 0 };
const many = async (provider) =>
  (await embedMany({ model: provider.embeddingModel(model), values: texts, ...options })).embeddings;
const single = async (value) =>
  (await embed({ model: openai.embeddingModel(model), value, ...options })).embedding;

const { version } = JSON.parse(readFileSync(new URL("node_modules/ai/package.json", import.meta.url)));
const found = {
  "/v1/embeddings, @ai-sdk/openai": await many(openai),
  "/v1/embeddings, @ai-sdk/openai-compatible": await many(compatible),
  "/v1/embeddings, embed": await Promise.all(texts.map(single)),
};
console.log(JSON.stringify({ version, vectors: found }));
