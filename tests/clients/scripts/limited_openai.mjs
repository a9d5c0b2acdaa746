// npm's openai at a limit of six requests a minute: limited_openai.mjs URL KEY MODEL
import OpenAI from "openai";

const [url, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 2 });
const embed = (options) => client.embeddings.create({ model, input: "hello" }, options);

let answered = 0;
for (let i = 0; i < 7; i++) answered += (await embed()).data.length;
let refused = {};
try {
  await embed({ maxRetries: 0 });
} catch (error) {
  refused = { name: error.constructor.name, status: error.status, body: error.message };
}
console.log(JSON.stringify({ answered, refused }));
