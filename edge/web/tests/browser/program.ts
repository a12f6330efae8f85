import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** The release build. */
export const BUILT = fileURLToPath(new URL("../../../../../target/release/tidings", import.meta.url));
/** Screenshots, and what the program logged. */
export const RESULTS = fileURLToPath(new URL("../../../tests/screenshots/", import.meta.url));
const READY_MS = 60_000;
const ASK_AGAIN_MS = 25;

/** The real program, `tidings up`, on a port and a data folder of its own, to be killed and started again at will. */
export class Program {
  readonly url: string;
  readonly #port: number;
  readonly #data: string;
  #child: ChildProcess | undefined;

  private constructor(port: number, data: string) {
    this.#port = port;
    this.#data = data;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Starts it on an empty data folder. `TIDINGS_BIN` names the program, else the release build is taken. */
  static async start(): Promise<Program> {
    const program = new Program(await freePort(), await mkdtemp(join(tmpdir(), "tidings-browser-")));
    await program.up();
    return program;
  }

  /** Starts it on the data that is there, and waits until it says that it is ready. */
  async up(): Promise<void> {
    const command = process.env["TIDINGS_BIN"] ?? BUILT;
    // The SQL port is anyone's, so that several programs can run at once.
    const settings = ["--set", "archive.http_listen=127.0.0.1:0"];
    const child = spawn(command, ["up", "--listen", `127.0.0.1:${this.#port}`, "--data", this.#data, ...settings], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    await mkdir(RESULTS, { recursive: true });
    const log = createWriteStream(join(RESULTS, "program.log"), { flags: "a" });
    child.stdout?.pipe(log);
    child.stderr?.pipe(log);
    this.#child = child;
    const failed = once(child, "error").then(([error]) => Promise.reject(error as Error));
    await Promise.race([this.#ready(child), failed]);
  }

  /** As the power cut does it. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** In good order: its clients are told first. */
  async goAway(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Ends it, and removes its data. */
  async stop(): Promise<void> {
    await this.goAway();
    await rm(this.#data, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  }

  async #ready(child: ChildProcess): Promise<void> {
    for (const end = performance.now() + READY_MS; performance.now() < end; await pause(ASK_AGAIN_MS)) {
      if (child.exitCode !== null) throw new Error(`the program ended with ${child.exitCode} before it was ready`);
      const answer = await fetch(`${this.url}/readyz`).catch(() => undefined);
      await answer?.arrayBuffer();
      if (answer?.ok) return;
    }
    throw new Error("the program did not become ready");
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
