/** Takes the picture for the README of the real program: `npm run picture FILE.png`. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { launch } from "./browser.ts";
import { Program } from "./program.ts";
import { Stage } from "./scenario.ts";

const file = process.argv[2] ?? "picture.png";
const program = await Program.start();
const browser = await launch();
const stage = new Stage(browser, program);

const view = { viewport: { width: 1120, height: 700 }, deviceScaleFactor: 2, locale: "en-GB" };
const maya = await stage.signUp("Maya Lindqvist", view);
const [tomas, ines, yuki] = [await stage.signUp("Tomas Okafor"), await stage.signUp("Ines Duarte"), await stage.signUp("Yuki Tanaka")];

await ines.startChat(maya);
await ines.say("The tide table is printed :white_check_mark:");
await maya.startChat(yuki);
await maya.say("Lunch on Thursday?");
await yuki.open("Maya Lindqvist");
await yuki.say("Yes! The place by the harbour");
await tomas.createGroup("Weekend sailing", [maya, ines, yuki]);
for (const person of [maya, ines, yuki]) await person.open("Weekend sailing");
await tomas.say("Wind looks good for Saturday :boat: 12 knots from the west.");
await ines.sees("Wind looks good for Saturday ⛵ 12 knots from the west.");
await ines.say("I bring coffee and the long rope.");
await ines.say("Meet at 9?");
await maya.sees("Meet at 9?");
await maya.message("Meet at 9?").hover();
await maya.message("Meet at 9?").getByRole("button", { name: "Reply" }).click();
await maya.say("Nine works. I checked https://example.org/tides: high water is at 10:40, so we can leave at once.");
await yuki.page.locator(".message").nth(3).waitFor();
await yuki.say(":tada:");
await maya.sees("🎉");
await maya.say("Then it is settled. See you at the pier :wave:");
for (const person of [tomas, ines, yuki]) await person.sees("Then it is settled. See you at the pier 👋");
await maya.progress("Then it is settled. See you at the pier 👋", "seen");
await tomas.page.locator("#message-input").pressSequentially("Perf");
await maya.page.locator(".typing-line", { hasText: "typing" }).waitFor();
await maya.page.mouse.move(600, 30);

await mkdir(dirname(file), { recursive: true });
await maya.page.screenshot({ path: file, animations: "disabled" });
await browser.close();
await program.stop();
