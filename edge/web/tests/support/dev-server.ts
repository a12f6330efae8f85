/** Serves `dist` with an edge that lives in memory: `node .test-build/tests/support/dev-server.js [port]`. */
import { fileURLToPath } from "node:url";
import { DevEdge } from "./dev-edge.ts";

const root = fileURLToPath(new URL("../../../dist", import.meta.url));
const edge = new DevEdge(root);
const port = await edge.listen(Number(process.argv[2] ?? 0));
console.log(`http://127.0.0.1:${port}/`);
