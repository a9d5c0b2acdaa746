// npm's clients for Google's APIs. Arguments: the server's URL, its key, a model, a gemini-named one, texts as JSON.
import { readFileSync } from 'node:fs';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createGoogleVertex } from '@ai-sdk/google-vertex';
import { GoogleGenAI } from '@google/genai';
import { embed, embedMany } from 'ai';
import { OAuth2Client } from 'google-auth-library';

const [url, key, model, geminiModel] = process.argv.slice(2, 6);
const texts = JSON.parse(process.argv[6]);
const full = texts.filter(text => text !== '');
const found = { versions: {} };
for (const name of ['@google/genai', 'ai', '@ai-sdk/google', '@ai-sdk/google-vertex']) {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  found.versions[name] = JSON.parse(readFileSync(file)).version;
}
const authClient = new OAuth2Client();
authClient.setCredentials({ access_token: key });
const vectors = reply => reply.embeddings.map(one => one.values);

const developer = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url } });
const withKey = new GoogleGenAI({ vertexai: true, apiKey: key, httpOptions: { baseUrl: url } });
const withToken = new GoogleGenAI({
  vertexai: true,
  project: 'p',
  location: 'us-central1',
  googleAuthOptions: { authClient },
  httpOptions: { baseUrl: url },
});
found['genai developer'] = vectors(await developer.models.embedContent({ model, contents: texts }));
const beta = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url, apiVersion: 'v1beta' } });
found['genai developer v1beta'] = vectors(await beta.models.embedContent({ model, contents: texts }));
found['genai vertex key'] = vectors(await withKey.models.embedContent({ model, contents: full }));
found['genai vertex token'] = vectors(await withToken.models.embedContent({ model, contents: full }));
found['genai vertex embedContent'] = vectors(
  await withToken.models.embedContent({ model: geminiModel, contents: full[0] }),
);

const google = createGoogleGenerativeAI({ apiKey: key, baseURL: `${url}/v1beta` });
const many = async embedder => (await embedMany({ model: embedder, values: texts, maxRetries: 0 })).embeddings;
found['ai google batch'] = await many(google.embeddingModel(model));
found['ai google single'] = [(await embed({ model: google.embeddingModel(model), value: texts[0] })).embedding];

const express = createGoogleVertex({ apiKey: key, baseURL: `${url}/v1/publishers/google` });
const vertex = createGoogleVertex({
  googleAuthOptions: { authClient },
  project: 'p',
  location: 'us-central1',
  baseURL: `${url}/v1beta1/projects/p/locations/us-central1/publishers/google`,
});
found['ai vertex key'] = await many(express.embeddingModel(model));
const counted = await embedMany({ model: vertex.embeddingModel(model), values: texts, maxRetries: 0 });
found['ai vertex token'] = counted.embeddings;
found.tokens = counted.usage.tokens;
found['ai vertex embedContent'] = [
  (await embed({ model: vertex.embeddingModel('gemini-embedding-2'), value: texts[0] })).embedding,
];
const titled = await embed({
  model: vertex.embeddingModel(model),
  value: 'cats',
  providerOptions: {
    googleVertex: { taskType: 'RETRIEVAL_DOCUMENT', title: 'Pets', outputDimensionality: 384, autoTruncate: true },
  },
});
found.titled = [titled.embedding];

const refusal = async work => {
  try {
    await work();
  } catch (error) {
    return [error.status ?? error.statusCode, error.message];
  }
  throw new Error('was not refused');
};
const unknown = 'no-such-model';
found.errors = {
  genai: await refusal(() => developer.models.embedContent({ model: unknown, contents: 'a' })),
  ai: await refusal(() => embed({ model: google.embeddingModel(unknown), value: 'a', maxRetries: 0 })),
  'ai vertex': await refusal(() => embed({ model: vertex.embeddingModel(unknown), value: 'a', maxRetries: 0 })),
};
console.log(JSON.stringify(found));
