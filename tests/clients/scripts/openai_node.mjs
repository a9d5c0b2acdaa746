// npm's openai: openai_node.mjs URL MODEL TEXTS
import { readFileSync } from "node:fs";
import OpenAI, { AzureOpenAI } from "openai";

const [url, model, path] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(path, "utf-8"));
const plain = new OpenAI({ baseURL: `${url}/v1`, apiKey: "x", maxRetries: 0 });
const azure = new AzureOpenAI({ endpoint: url, apiVersion: "2024-10-21", apiKey: "x", maxRetries: 0 });
const vectors = async (client, options) =>
  (await client.embeddings.create({ model, input: texts, ...options })).data.map((one) => one.embedding);

const { version } = JSON.parse(readFileSync(new URL("node_modules/openai/package.json", import.meta.url)));
const found = {
  "/v1/embeddings": await vectors(plain),
  "/v1/embeddings, float": await vectors(plain, { encoding_format: "float" }),
  "/openai/deployments/…": await vectors(azure),
};
console.log(JSON.stringify({ version, vectors: found }));
