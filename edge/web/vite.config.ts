import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { type Plugin, defineConfig } from "vite";

// The edge serves `dist` at `/`. In development the same paths are handed on to an edge on its default port.
const edge = "127.0.0.1:8080";

/** A file this small is not worth compressing: it fits into one packet. */
const COMPRESSED_BYTES_MIN = 1_400;

/** Puts a `.br` and a `.gz` beside each file of the build: the edge sends what a browser accepts. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    writeBundle({ dir = "dist" }) {
      for (const name of readdirSync(dir, { recursive: true, encoding: "utf8" })) {
        if (!/\.(js|css|html|svg)$/.test(name)) continue;
        const path = join(dir, name);
        const content = readFileSync(path);
        if (content.length < COMPRESSED_BYTES_MIN) continue;
        writeFileSync(`${path}.br`, brotliCompressSync(content));
        writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  plugins: [compressed()],
  build: {
    target: "es2022",
    // Browsers that know light-dark() by themselves.
    cssTarget: ["chrome123", "firefox128", "safari17.5"],
    // Every asset is a file of its own, so that a strict Content-Security-Policy needs no exception for data: URIs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/v1/connect": { target: `ws://${edge}`, ws: true },
      "/v1": { target: `http://${edge}` },
    },
  },
});
