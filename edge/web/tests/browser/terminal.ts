import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { BUILT } from "./program.ts";

const PASSWORD = "correct horse";
const PATIENCE_MS = 30_000;

/** Somebody at a terminal: `tidings chat`, with lines typed and lines read. */
export class Terminal {
  readonly username: string;
  /** All that it has printed. */
  output = "";
  readonly #child: ChildProcessWithoutNullStreams;

  constructor(url: string, username: string) {
    this.username = username;
    const command = process.env["TIDINGS_BIN"] ?? BUILT;
    this.#child = spawn(command, ["chat", "--url", url, "--user", username], {
      env: { ...process.env, TIDINGS_PASSWORD: PASSWORD },
    });
    const listen = (text: string): void => {
      this.output += text;
    };
    this.#child.stdout.setEncoding("utf8").on("data", listen);
    this.#child.stderr.setEncoding("utf8").on("data", listen);
  }

  type(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Waits until it has printed that. */
  async prints(text: string): Promise<void> {
    const tooLate = AbortSignal.timeout(PATIENCE_MS);
    while (!this.output.includes(text)) {
      await once(this.#child.stdout, "data", { signal: tooLate }).catch(() => {
        throw new Error(`the terminal did not print “${text}”, but:\n${this.output}`);
      });
    }
  }

  async leave(): Promise<void> {
    const gone = once(this.#child, "exit");
    this.#child.stdin.end("/quit\n");
    await gone;
  }
}
