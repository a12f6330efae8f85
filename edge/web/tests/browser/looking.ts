import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { limits } from "../../src/sdk/index.ts";
import type { Scenario } from "./scenario.ts";

const PHONE = { viewport: { width: 360, height: 720 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
const HISTORY = limits.HISTORY_PAGE_MESSAGES * 3 + 7;

/** How many pixels the page is wider than the window. */
function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
}

export const looking: Scenario[] = [
  {
    name: "history comes as one scrolls up, without the view moving, down to the first message",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.page.evaluate(async (count) => {
        const { token } = JSON.parse(localStorage.getItem("tidings.account") ?? "{}") as { token: string };
        const id = decodeURIComponent(location.hash.replace("#/c/", ""));
        for (let number = 1; number <= count; number += 1) {
          const response = await fetch(`/v1/conversations/${id}/messages`, {
            method: "POST",
            headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
            body: JSON.stringify({ client_message_id: crypto.randomUUID(), text: `line ${number}` }),
          });
          if (response.status === 429) number -= 1;
          else if (!response.ok) throw new Error(await response.text());
        }
      }, HISTORY);
      await ben.open("Ann");
      await ben.sees(`line ${HISTORY}`);
      const timeline = ben.page.locator(".timeline");
      // Each time the oldest message that is there is brought into view, the next page is read above it.
      for (let first = await ben.page.locator(".message").count(); ; ) {
        const anchor = ben.page.locator(".message").first();
        const text = await anchor.locator(".bubble-text").innerText();
        if (text === "line 1") break;
        await timeline.evaluate((box) => (box.scrollTop = 300));
        const before = (await ben.message(text).boundingBox())?.y ?? 0;
        await ben.page.waitForFunction((count) => document.querySelectorAll(".message").length > count, first);
        const after = (await ben.message(text).boundingBox())?.y ?? 0;
        assert.ok(Math.abs(after - before) < 40, `the view moved by ${after - before} pixels`);
        first = await ben.page.locator(".message").count();
      }
      const lines = await ben.texts();
      assert.deepEqual(lines, Array.from({ length: HISTORY }, (_, index) => `line ${index + 1}`));
      await ben.page.getByRole("button", { name: "To the newest message" }).click();
      await ben.page.getByRole("button", { name: "To the newest message" }).waitFor({ state: "detached" });
    },
  },
  {
    name: "a phone's width: the list and the chat are two screens, and nothing sticks out",
    async run(stage) {
      const ann = await stage.signUp("Ann", PHONE);
      const ben = await stage.signUp("Ben");
      await ben.startChat(ann);
      await ben.say("Do you have a minute? This one is about the boat, the rope and all the other things that we still need");
      await ben.say("https://example.org/a/very/long/address/that/does/not/fit/into/the/width/of/a/phone/at/all");
      await ann.row("Ben").waitFor();
      assert.equal(await overflow(ann.page), 0);
      await stage.screenshot(ann, "13-phone-list");
      await ann.row("Ben").tap();
      await ann.chatTitle("Ben").waitFor();
      assert.equal(await ann.page.locator(".sidebar").isVisible(), false);
      await ann.page.locator(".message-other").last().waitFor();
      assert.equal(await overflow(ann.page), 0);
      await ann.page.locator(".message-other .bubble-text").first().tap();
      await ann.page.getByRole("toolbar").first().getByRole("button", { name: "Reply" }).tap();
      await ann.say("Sure :+1:");
      await ben.sees("Sure 👍");
      await stage.screenshot(ann, "14-phone-chat");
      await ann.details();
      assert.equal(await overflow(ann.page), 0);
      await ann.page.getByRole("button", { name: "Close details" }).tap();
      await ann.page.getByRole("button", { name: "Back to the list" }).tap();
      await ann.row("Ben").waitFor();
      assert.equal(await ann.page.locator(".sidebar").isVisible(), true);
    },
  },
  {
    name: "the keyboard alone is enough",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ben.row("Ann").waitFor();
      const { keyboard } = ben.page;
      // From the search over the list into the chat.
      await keyboard.press("Control+k");
      await ben.page.locator(".search input:focus").waitFor();
      await keyboard.press("Tab");
      await keyboard.press("Tab");
      await keyboard.press("Tab");
      await ben.page.locator("a.row:focus-visible").waitFor();
      await keyboard.press("Enter");
      await ben.page.locator("#message-input:focus").waitFor();
      await keyboard.type("one");
      await keyboard.press("Shift+Enter");
      await keyboard.type("two :smil");
      await ben.page.getByRole("option").first().waitFor();
      await keyboard.press("Enter");
      await keyboard.press("Enter");
      await ann.sees("one\ntwo 😄");
      // Back among the messages, to reply and to delete.
      await keyboard.press("Shift+Tab");
      await keyboard.press("Shift+Tab");
      await ben.page.locator(".timeline:focus, .timeline :focus").first().waitFor();
      await keyboard.press("ArrowUp");
      await ben.page.locator(".message.is-active").waitFor();
      await keyboard.press("r");
      await ben.page.locator(".composer-focus .quote").waitFor();
      await ben.page.locator("#message-input:focus").waitFor();
      await keyboard.press("Escape");
      await ben.page.locator(".composer-focus").waitFor({ state: "detached" });
      await keyboard.press("ArrowUp");
      await ben.page.locator(".composer-editing").waitFor();
      await keyboard.press("Escape");
      await ben.page.locator(".composer-editing").waitFor({ state: "detached" });
    },
  },
  {
    name: "dark and light, as the system has it or as one chooses, and it stays so",
    async run(stage) {
      const ann = await stage.signUp("Ann", { colorScheme: "dark" });
      const ground = (): Promise<string> => ann.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const dark = await ground();
      await stage.screenshot(ann, "15-dark");
      await ann.page.getByRole("button", { name: /^Theme/ }).click();
      await ann.page.getByRole("button", { name: "Theme: dark" }).click();
      await ann.page.getByRole("button", { name: "Theme: light" }).waitFor();
      const light = await ground();
      assert.notEqual(light, dark);
      await stage.screenshot(ann, "16-light");
      await ann.page.reload();
      await ann.page.getByRole("button", { name: "Theme: light" }).waitFor();
      assert.equal(await ground(), light);
    },
  },
  {
    name: "signing in with a wrong password, and with a name that is taken, says what is wrong",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      await ann.signOut("Here");
      await ann.page.locator("[name=username]").fill(ann.username);
      await ann.page.locator("[name=password]").fill("not this one");
      await ann.page.locator("button[type=submit]").click();
      await ann.page.getByRole("alert").filter({ hasText: "do not match" }).waitFor();
      await ann.page.getByRole("tab", { name: "Create account" }).click();
      await ann.page.locator("button[type=submit]").click();
      await ann.page.getByRole("alert").filter({ hasText: "taken" }).waitFor();
    },
  },
  {
    name: "signing out ends this browser's token; everywhere, those of all browsers",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const annsPhone = await stage.signIn(ann);
      const annsTablet = await stage.signIn(ann);
      const answers = async (token: string): Promise<number> => {
        const response = await fetch(`${stage.program.url}/v1/conversations`, { headers: { authorization: `Bearer ${token}` } });
        await response.arrayBuffer();
        return response.status;
      };
      const token = await ann.token();
      assert.equal(await answers(token), 200);
      await ann.signOut("Here");
      await ann.page.locator("[name=password]").waitFor();
      for (const end = performance.now() + 10_000; (await answers(token)) !== 401; ) assert.ok(performance.now() < end, "the token lives on");
      assert.equal(await answers(await annsPhone.token()), 200, "the others go on");
      await stage.screenshot(annsPhone, "17-before-signing-out");

      await annsPhone.signOut("Everywhere");
      await annsPhone.page.locator("[name=password]").waitFor();
      await annsTablet.page.getByText("You have been signed out").waitFor();
    },
  },
];
