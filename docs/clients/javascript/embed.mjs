// Embeds texts through Triton and prints the cosine of the first with each of the others.
//
//     npm install @grpc/grpc-js @grpc/proto-loader
//     node embed.mjs localhost:8001 "hai con chó" "một con mèo" "hai chú cún"
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const proto = new URL("../triton.proto", import.meta.url).pathname;
const { inference } = grpc.loadPackageDefinition(loadSync(proto, { keepCase: true }));

function embed(client, texts) {
  const request = {
    model_name: "embed_text",
    inputs: [
      {
        name: "text",
        datatype: "BYTES",
        shape: [texts.length, 1],
        contents: { bytes_contents: texts.map((text) => Buffer.from(text, "utf8")) },
      },
    ],
    outputs: [{ name: "embedding" }],
  };
  const deadline = Date.now() + 10_000;
  return new Promise((resolve, reject) => {
    client.ModelInfer(request, { deadline }, (error, answer) => {
      if (error) return reject(error);
      const raw = answer.raw_output_contents[0];
      const dim = Number(answer.outputs[0].shape[1]);
      const row = (n) =>
        Array.from({ length: dim }, (_, i) => raw.readFloatLE(4 * (n * dim + i)));
      resolve(texts.map((_, n) => row(n)));
    });
  });
}

const [address, ...texts] = process.argv.slice(2);
const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure());
try {
  const [first, ...others] = await embed(client, texts);
  others.forEach((other, n) => {
    const cosine = first.reduce((sum, value, i) => sum + value * other[i], 0);
    console.log(`${cosine.toFixed(4)} ${texts[n + 1]}`);
  });
} finally {
  client.close();
}
