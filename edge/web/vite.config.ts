import { defineConfig } from "vite";

// The edge serves `dist` at `/`. In development the same paths are handed on to an edge on its default port.
const edge = "127.0.0.1:8080";

export default defineConfig({
  build: {
    target: "es2022",
    // Every asset is a file of its own, so that a strict Content-Security-Policy needs no exception for data: URIs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Browsers that know light-dark() by themselves.
    cssTarget: ["chrome123", "firefox128", "safari17.5"],
  },
  server: {
    proxy: {
      "/v1/connect": { target: `ws://${edge}`, ws: true },
      "/v1": { target: `http://${edge}` },
    },
  },
});
