// Generates with llama.cpp on one thread, for benchmark_slots.py: node llama_cpp_speed.mjs PACKAGE FILE.gguf ROWS
// Each line of stdin is a number of tokens to write in every row; each line of stdout the CPU seconds that it took.
import path from "node:path";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const [library, file, rows] = process.argv.slice(2);
const {getLlama} = await import(pathToFileURL(path.join(library, "dist/index.js")));
const llama = await getLlama({gpu: false, build: "never", maxThreads: 1, logLevel: "error", progressLogs: false});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({sequences: +rows, contextSize: 128, threads: 1, batchSize: 512});
const prompt = Array.from({length: 32}, (_, i) => 1000 + i);
const sequences = Array.from({length: +rows}, () => context.getSequence());

async function write(sequence, number) {
    await sequence.clearHistory();
    let count = 0;
    for await (const _ of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true}))
        if (++count >= number)
            break;
}

for await (const line of readline.createInterface({input: process.stdin})) {
    const before = process.cpuUsage();
    await Promise.all(sequences.map((sequence) => write(sequence, +line)));
    const took = process.cpuUsage(before);
    console.log((took.user + took.system) / 1e6);
}
process.exit(0);
