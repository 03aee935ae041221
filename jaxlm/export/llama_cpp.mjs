// Asks llama.cpp about a GGUF, through npm's node-llama-cpp: node llama_cpp.mjs REQUEST.json ANSWER.json
// Request: {package, file, texts, rows, encoder, count}. Answer: {engine, tokens, vectors} or {engine, tokens, greedy}.
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const request = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const library = await import(pathToFileURL(path.join(request.package, "dist/index.js")));
// One thread: several wait for each other in loops, on a busy machine for minutes.
const llama = await library.getLlama({gpu: false, build: "never", maxThreads: 1, logLevel: "error", progressLogs: false});
const model = await llama.loadModel({modelPath: request.file});
const version = JSON.parse(fs.readFileSync(path.join(request.package, "package.json"), "utf8")).version;
const answer = {
    engine: `llama.cpp ${llama.llamaCppRelease?.release ?? ""} (node-llama-cpp ${version})`,
    tokens: request.texts.map((text) => Array.from(model.tokenize(text, false)))
};
const contextSize = Math.max(...request.rows.map((row) => row.length)) + request.count + 8;

if (request.encoder) {
    const context = await model.createEmbeddingContext({contextSize, batchSize: contextSize, threads: 1});
    answer.vectors = [];
    for (const row of request.rows)
        answer.vectors.push((await context.getEmbeddingFor(row)).vector);
} else {
    const context = await model.createContext({contextSize, batchSize: contextSize, threads: 1});
    const sequence = context.getSequence();
    answer.greedy = [];
    for (const row of request.rows) {
        await sequence.clearHistory();
        const steps = [];
        const options = {temperature: 0, yieldEogToken: true};
        for await (const step of sequence.evaluateWithMetadata(row, {probabilities: true}, options)) {
            steps.push([step.token, [...step.probabilities].slice(0, 5)]);
            if (steps.length >= request.count)
                break;
        }
        answer.greedy.push(steps);
    }
}
fs.writeFileSync(process.argv[3], JSON.stringify(answer));
process.exit(0);
