import assert from "node:assert/strict";
import type { Scenario } from "./scenario.ts";

export const chatting: Scenario[] = [
  {
    name: "two people find each other and chat, and ticks tell how far each message has come",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ben.leave();
      await ann.startChat(ben);
      await ann.say("Are you there? :wave:");
      await ann.progress("Are you there? 👋", "sent");
      await stage.screenshot(ann, "1-sent");

      const again = await stage.signIn(ben);
      await again.row("Ann").locator(".badge").waitFor();
      await ann.progress("Are you there? 👋", "delivered");
      await stage.screenshot(ann, "2-delivered");
      await stage.screenshot(again, "2-unread");

      await again.open("Ann");
      await ann.progress("Are you there? 👋", "seen");
      await again.row("Ann").locator(".badge").waitFor({ state: "detached" });
      await again.say("Yes, just came home");
      await ann.sees("Yes, just came home");
      await again.progress("Yes, just came home", "seen");
      await stage.screenshot(ann, "3-seen");
    },
  },
  {
    name: "a direct chat is one and the same, whoever starts it",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("first");
      await ben.startChat(ann);
      await ben.sees("first");
      assert.equal(await ben.row("Ann").count(), 1);
    },
  },
  {
    name: "who is online and who is typing is seen; after leaving, when they were last seen",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("hello");
      await ann.page.locator(".chat-sub", { hasText: "online" }).waitFor();
      await ben.open("Ann");
      await ben.page.locator("#message-input").pressSequentially("I am");
      await ann.page.locator(".typing-line", { hasText: "Ben is typing" }).waitFor();
      await ann.row("Ben").locator(".row-typing").waitFor();
      await stage.screenshot(ann, "4-typing");
      await ben.page.locator("#message-input").press("Enter");
      await ann.sees("I am");
      await ann.page.locator(".typing-line", { hasText: "typing" }).waitFor({ state: "detached" });
      await ben.leave();
      await ann.page.locator(".chat-sub", { hasText: "last seen" }).waitFor({ timeout: 40_000 });
      await ann.row("Ben").locator(".presence-dot").waitFor({ state: "detached" });
      await stage.screenshot(ann, "5-last-seen");
    },
  },
  {
    name: "messages are edited, deleted and answered, and the other sees it",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("Tee at five?");
      await ann.progress("Tee at five?", "delivered");
      await ben.open("Ann");
      // Arrow up edits the last message.
      await ann.page.locator("#message-input").press("ArrowUp");
      await ann.page.locator(".composer-editing").waitFor();
      await ann.say("Tea at five?");
      await ben.sees("Tea at five?");
      await ben.message("Tea at five?").getByText("edited").waitFor();

      await ben.message("Tea at five?").hover();
      await ben.message("Tea at five?").getByRole("button", { name: "Reply" }).click();
      await ben.say("With cake!");
      await ann.message("With cake!").locator(".quote", { hasText: "Tea at five?" }).waitFor();
      await stage.screenshot(ann, "6-edited-and-answered");

      await ann.say("a slip");
      await ben.sees("a slip");
      await ann.message("a slip").hover();
      await ann.message("a slip").getByRole("button", { name: "Delete" }).click();
      await ann.confirm("Delete");
      await ben.sees("This message was deleted");
      await ben.message("a slip").waitFor({ state: "detached" });
      assert.equal(await ben.message("With cake!").locator("[aria-label=Delete]").count(), 1);
      assert.equal(await ben.message("Tea at five?").locator("[aria-label=Delete]").count(), 0, "only one's own in a direct chat");
    },
  },
  {
    name: "what somebody writes is text, never HTML; links lead out safely",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      const nasty = `<img src=x onerror="document.title='pwned'"> & <b>bold</b>`;
      await ann.say(nasty);
      await ann.say("see https://example.org/a?b=c, and javascript:alert(1)");
      await ben.open("Ann");
      await ben.sees(nasty);
      assert.equal(await ben.page.locator(".bubble-text img, .bubble-text b").count(), 0);
      const links = ben.page.locator(".bubble-text a");
      await links.first().waitFor();
      assert.deepEqual(await links.evaluateAll((all) => all.map((link) => [link.getAttribute("href"), link.getAttribute("rel")])), [
        ["https://example.org/a?b=c", "noopener noreferrer nofollow"],
      ]);
      assert.notEqual(await ben.page.title(), "pwned");
    },
  },
  {
    name: "one user's two windows agree on what was sent and what was seen",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      const annToo = await stage.signIn(ann);
      await ann.say("from the first window");
      await annToo.open("Ben");
      await annToo.sees("from the first window");
      await annToo.page.goto(`${stage.program.url}/#/`);
      await ann.page.evaluate(() => (location.hash = "#/"));
      await ben.open("Ann");
      await ben.say("answer");
      await ann.row("Ben").locator(".badge").waitFor();
      await annToo.row("Ben").locator(".badge").waitFor();
      await ann.open("Ben");
      await annToo.row("Ben").locator(".badge").waitFor({ state: "detached" });
    },
  },
];
