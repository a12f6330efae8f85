/**
 * The browser tests: real browsers against the real program. `npm run test:browser [part of a name]`.
 * Screenshots go to `tests/screenshots`, those of failed tests too.
 */
import { breaking } from "./breaking.ts";
import { launch } from "./browser.ts";
import { chatting } from "./chatting.ts";
import { grouping } from "./grouping.ts";
import { looking } from "./looking.ts";
import { mixing } from "./mixing.ts";
import { Program } from "./program.ts";
import { Stage } from "./scenario.ts";

const scenarios = [...chatting, ...grouping, ...looking, ...mixing, ...breaking];
const wanted = process.argv[2] ?? "";
const chosen = scenarios.filter(({ name }) => name.includes(wanted));

const program = await Program.start();
const browser = await launch();
const stage = new Stage(browser, program);
let failed = 0;
for (const { name, run } of chosen) {
  const started = performance.now();
  let problem: unknown;
  try {
    await run(stage);
  } catch (thrown) {
    problem = thrown;
  }
  await stage.clear(problem === undefined ? undefined : name.slice(0, 40)).catch((thrown: unknown) => (problem ??= thrown));
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  console.log(`${problem === undefined ? "ok" : "FAILED"}  ${name}  (${seconds} s)`);
  if (problem === undefined) continue;
  failed += 1;
  console.log(problem instanceof Error ? (problem.stack ?? problem.message) : problem);
}
await browser.close();
await program.stop();
console.log(`\n${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
